//go:build linux && cgo

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/initramfs"
	"github.com/bellhop-vm/bellhop/vmm"
)

// otherInit starts the agent as a service in a cgroup that it may govern, as systemd does.
const otherInit = `#!/busybox sh
export PATH=/bin
/busybox mkdir -p /bin && /busybox --install -s /bin
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs dev /dev && mount -t tmpfs run /run && mount -t tmpfs tmp /tmp
while read m; do insmod $m; done </etc/bellhop/modules
echo '+memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/service
sh -c 'echo $$ >/sys/fs/cgroup/service/cgroup.procs; exec /agent --port 2048 --log-level debug' </dev/null
echo "the service exited with status $?"
poweroff -f
`

// startService boots a machine with otherInit and connects to its agent.
func startService(t *testing.T) (*vmm.VM, *hostclient.Client) {
	t.Helper()
	guest, err := initramfs.Guest{}.Locate("../../build")
	if err != nil {
		t.Fatalf("%v (run: make build)", err)
	}
	spec := guest.Spec()
	spec.Agent, spec.Compression = "", initramfs.None
	spec.Files = []initramfs.File{
		{Path: "/init", Content: []byte(otherInit), Mode: 0o755},
		{Path: "/busybox", Source: "/bin/busybox", Mode: 0o755},
		{Path: "/agent", Source: guest.Agent, Mode: 0o755},
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := initramfs.BuildFile(initrd, spec); err != nil {
		t.Fatal(err)
	}
	vm, err := vmm.Start(t.Context(), vmm.Config{Kernel: guest.Kernel, Initrd: initrd})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		vm.Close()
		if t.Failed() {
			t.Logf("console:\n%s", vm.ConsoleTail())
		}
	})
	client, err := hostclient.Connect(testContext(t), vm, &hostclient.Config{ControlPort: 2048})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return vm, client
}

func TestServiceOfAnotherInit(t *testing.T) {
	vm, client := startService(t)
	ctx := testContext(t)
	info, err := client.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.PID1 {
		t.Error("Info says that the agent is under its own PID 1; want another init")
	}
	out, err := client.Command(ctx, "/bin/cat", fmt.Sprintf("/proc/%d/cgroup", info.AgentPid), "/proc/self/cgroup",
		"/sys/fs/cgroup/service/bellhop/cgroup.subtree_control").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	if lines[0] != "0::/service/bellhop-agent" || !strings.HasPrefix(lines[1], "0::/service/bellhop/") || !strings.Contains(lines[2], "memory") {
		t.Errorf("cgroups of agent and process, and controllers = %q; want them beneath /service, with memory", lines)
	}
	if err := client.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	console, err := endOf(t, vm)
	if err != nil {
		t.Errorf("the machine ended with %v; want a power-off", err)
	}
	for _, want := range []string{"only the agent ends, not the machine", "the service exited with status 0"} {
		if !strings.Contains(console, want) {
			t.Errorf("the console does not say %q; it says:\n%s", want, console)
		}
	}
}
