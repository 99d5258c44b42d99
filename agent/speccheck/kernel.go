//go:build linux

package speccheck

import (
	"fmt"
	"os"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// Kernel refuses what this guest's kernel cannot do, before anything is made. cgroup is a directory in which containers' cgroups are made. The spec has passed Check.
func Kernel(s *specs.Spec, cgroup string) error {
	for _, check := range []func(*specs.Spec) error{checkSupportedCapabilities, checkModules, checkNamespaceFiles, checkMappedDevices} {
		if err := check(s); err != nil {
			return err
		}
	}
	if s.Linux.Resources == nil {
		return nil
	}
	return checkControllers(s.Linux.Resources, cgroup)
}

// checkSupportedCapabilities refuses capabilities newer than the kernel, which libcontainer leaves out.
func checkSupportedCapabilities(s *specs.Spec) error {
	if s.Process.Capabilities == nil {
		return nil
	}
	list, err := capability.ListSupported()
	if err != nil {
		return fmt.Errorf("cannot list the kernel's capabilities: %w", err)
	}
	supported := knownCapabilities(list)
	for _, set := range capabilitySets(s.Process.Capabilities) {
		if err := subset(set, "of this kernel", supported); err != nil {
			return err
		}
	}
	return nil
}

// rdtgroupMagic is RDTGROUP_SUPER_MAGIC, linux/magic.h.
const rdtgroupMagic = 0x7655821

// checkModules refuses what belongs to a security module that is not active, or to hardware that is not there.
func checkModules(s *specs.Spec) error {
	appArmor, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	selinux := isFilesystem("/sys/fs/selinux", unix.SELINUX_MAGIC)
	return firstBroken(
		rule{s.Process.ApparmorProfile != "" && string(appArmor) != "Y\n", "process.apparmorProfile", "this kernel has no AppArmor, or it is off"},
		rule{s.Process.SelinuxLabel != "" && !selinux, "process.selinuxLabel", "this kernel has no SELinux, or it is off"},
		rule{s.Linux.MountLabel != "" && !selinux, "linux.mountLabel", "this kernel has no SELinux, or it is off"},
		rule{s.Linux.IntelRdt != nil && !isFilesystem("/sys/fs/resctrl", rdtgroupMagic), "linux.intelRdt", "no resctrl file system is mounted"},
	)
}

func isFilesystem(dir string, magic int64) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && int64(fs.Type) == magic
}

// checkNamespaceFiles refuses paths that are no namespaces of the kind that they are given for.
func checkNamespaceFiles(s *specs.Spec) error {
	for i, ns := range s.Linux.Namespaces {
		if ns.Path == "" {
			continue
		}
		field := fmt.Sprintf("linux.namespaces[%d].path", i)
		kind, err := namespaceKind(ns.Path)
		if err != nil {
			return failure.Field(field, "%v", err)
		}
		if kind != cloneFlags[ns.Type] {
			return failure.Field(field, "%.256s is not a %s namespace", ns.Path, ns.Type)
		}
	}
	return nil
}

var cloneFlags = map[specs.LinuxNamespaceType]int{
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET, specs.MountNamespace: unix.CLONE_NEWNS,
	specs.IPCNamespace: unix.CLONE_NEWIPC, specs.UTSNamespace: unix.CLONE_NEWUTS, specs.UserNamespace: unix.CLONE_NEWUSER,
	specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
}

// namespaceKind gives the CLONE_NEW* flag of the namespace that a file stands for, ioctl_ns(2). It does not wait for a writer of a FIFO.
func namespaceKind(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const nsGetNSType = 0xb703 // NS_GET_NSTYPE
	kind, err := unix.IoctlRetInt(int(f.Fd()), nsGetNSType)
	if err != nil {
		return 0, fmt.Errorf("%.256s is not a namespace: %w", path, err)
	}
	return kind, nil
}
