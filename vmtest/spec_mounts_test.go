package vmtest_test

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// mountCases mount what the guest has in diskFiles and in /dev, or file systems of their own.
func mountCases() []specCase {
	return []specCase{
		{
			"Bind", mount(specs.Mount{Destination: "/mnt/bind", Source: diskFiles, Options: []string{"rbind", "ro", "nosuid", "nodev", "noexec"}}),
			`cat /mnt/bind/file; touch /mnt/bind/new 2>&1 | grep -o Read-only; ` + mountFlags("/mnt/bind"), "on disk\nRead-only\nro,nosuid,nodev,noexec,relatime",
		},
		{
			"BindFile", mount(specs.Mount{Destination: "/mnt/one", Source: diskFiles + "/file", Options: []string{"bind"}}),
			`cat /mnt/one; test -f /mnt/one && echo a file`, "on disk\na file",
		},
		{
			"Tmpfs", mount(specs.Mount{Destination: "/mnt/tmpfs", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m", "mode=0700", "uid=5"}}),
			`ls -ldn /mnt/tmpfs | tr -s ' ' | cut -d' ' -f1,3; dd if=/dev/zero of=/mnt/tmpfs/f bs=64k count=32 2>/dev/null; wc -c </mnt/tmpfs/f`, "drwx------ 5\n1048576",
		},
		{
			"TmpCopyUp", mount(specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}}),
			`grep -c . /etc/passwd; rm /etc/passwd; grep -c ' /etc .* tmpfs' /proc/self/mountinfo`, "2\n1",
		},
		{"MountOptions", mount(specs.Mount{Destination: "/mnt/options", Type: "tmpfs", Source: "tmpfs", Options: []string{
			"defaults", "suid", "dev", "exec", "noatime", "nodiratime", "nosymfollow", "sync", "dirsync", "silent",
		}}), mountFlags("/mnt/options") + `; grep ' /mnt/options ' /proc/self/mountinfo | grep -o 'rw,sync,dirsync'`, "rw,noatime,nodiratime,nosymfollow\nrw,sync,dirsync"},
		{
			"RecursiveReadOnly", mount(specs.Mount{Destination: "/mnt/tree", Source: "/dev", Options: []string{"rbind", "rro"}}),
			mountFlags("/mnt/tree") + `; ` + mountFlags("/mnt/tree/shm"), "ro,nosuid,relatime\nro,nosuid,nodev,relatime",
		},
		{
			"ReadOnlyTop", mount(specs.Mount{Destination: "/mnt/tree", Source: "/dev", Options: []string{"rbind", "ro", "nosuid"}}),
			mountFlags("/mnt/tree") + `; ` + mountFlags("/mnt/tree/shm"), "ro,nosuid,relatime\nrw,nosuid,nodev,relatime",
		},
		{
			"Propagation", func(s *specs.Spec) {
				for _, p := range []string{"shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"} {
					mount(specs.Mount{Destination: "/mnt/" + p, Source: diskFiles, Options: []string{"bind", p}})(s)
				}
			}, `for p in shared slave private unbindable rshared rslave rprivate runbindable; do grep " /mnt/$p " /proc/self/mountinfo | cut -d' ' -f7 | cut -d: -f1; done`,
			"shared\n-\n-\nunbindable\nshared\n-\n-\nunbindable",
		},
		{
			"RootPropagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" },
			`grep ' / / \|/rootfs/busybox / ' /proc/self/mountinfo | cut -d' ' -f7 | cut -d: -f1`, "shared",
		},
		{"IDMapped", func(s *specs.Spec) {
			mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
			mount(specs.Mount{Destination: "/mnt/mapped", Source: diskFiles, Options: []string{"bind", "idmap"}, UIDMappings: mapping, GIDMappings: mapping})(s)
		}, `ls -ln /mnt/mapped/file | tr -s ' ' | cut -d' ' -f3,4`, "1000 1000"},
		{"HiddenPaths", func(s *specs.Spec) {
			s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/etc/passwd", "/root", "/not/there")
			s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/tmp")
		}, `wc -c </etc/passwd; touch /root/new 2>&1 | grep -o Read-only; touch /tmp/new 2>&1 | grep -o Read-only`, "0\nRead-only\nRead-only"},
		{
			"Devices", func(s *specs.Spec) {
				s.Linux.Devices = []specs.LinuxDevice{
					{Path: "/dev/mine", Type: "c", Major: 1, Minor: 5, FileMode: new(os.FileMode(0o640)), UID: new(uint32(1)), GID: new(uint32(2))},
					{Path: "/dev/sub/old", Type: "u", Major: 1, Minor: 5},
					{Path: "/dev/pipe", Type: "p"},
					{Path: "/dev/disk0", Type: "b", Major: diskMajor, Minor: 0},
				}
				s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
					Allow: true, Type: "b", Major: new(int64(diskMajor)), Minor: new(int64(0)), Access: "r",
				})
			}, `cd /dev; ls -ln mine pipe disk0 | tr -s ' ' | cut -d' ' -f1,3,4; head -c3 sub/old | wc -c; head -c3 disk0 | wc -c; dd if=/dev/zero of=disk0 count=1 2>&1 | grep -o 'not permitted'`,
			"brw-rw-rw- 0 0\ncrw-r----- 1 2\nprw-rw-rw- 0 0\n3\n3\nnot permitted",
		},
		{
			"DeviceRules", func(s *specs.Spec) {
				s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11}, {Path: "/dev/mem", Type: "c", Major: 1, Minor: 1}}
				s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
					Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: "w",
				})
			}, `echo hello >/dev/kmsg && echo written; dd if=/dev/kmsg count=1 2>&1 | grep -o 'not permitted'; dd if=/dev/mem count=1 2>&1 | grep -o 'not permitted'`,
			"written\nnot permitted\nnot permitted",
		},
		{
			"DefaultDevices", unchanged, `cd /dev; for d in full null random tty urandom zero; do test -c $d || echo no $d; done; for l in fd stdin stdout stderr ptmx; do readlink $l; done; ls /dev | wc -l`,
			"/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n15",
		},
	}
}

func mount(m specs.Mount) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Mounts = append(s.Mounts, m) }
}

// mountFlags is a script that prints the flags of a mount point.
func mountFlags(point string) string {
	return `grep ' ` + point + ` ' /proc/self/mountinfo | cut -d' ' -f6`
}
