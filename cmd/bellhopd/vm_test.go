//go:build linux && cgo

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// vmTimeout bounds what these tests wait for in a VM, without KVM on a busy machine.
const vmTimeout = 2 * time.Minute

const busybox = vmtest.Rootfs + "/bin/busybox"

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), vmTimeout)
	t.Cleanup(cancel)
	return ctx
}

// output runs a busybox applet in the guest's own root.
func output(t *testing.T, vm *vmtest.VM, applet ...string) string {
	t.Helper()
	out, err := vm.Client.Command(testContext(t), busybox, applet...).Output()
	if err != nil {
		t.Fatalf("%q in the guest: %v", applet, err)
	}
	return strings.TrimSpace(string(out))
}

// endOf waits until the machine has ended, and returns what its console said.
func endOf(t *testing.T, vm *vmm.VM) (console string, err error) {
	t.Helper()
	select {
	case <-vm.Done():
	case <-time.After(vmTimeout):
		t.Fatalf("the machine has not ended after %v", vmTimeout)
	}
	return vm.ConsoleTail(), vm.Wait()
}

// TestGuest has words on the kernel command line that the kernel gives to init as arguments and environment.
func TestGuest(t *testing.T) {
	vm := vmtest.Start(t, vmtest.Busybox(), vmtest.KernelArgs(
		"init", "--help", "_LIBCONTAINER_INITPIPE=3", "bellhop.hostname=desk", "bellhop.nonsense", "bellhop.loglevel=debug"))

	info, err := vm.Client.Info(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if !info.PID1 || info.Software != "bellhopd "+version || info.AgentPid <= 1 {
		t.Errorf("Info = %+v; want the child of PID 1, version %s", info, version)
	}
	if tl := info.Timeline; tl.Init <= 0 || tl.Main < tl.Init || tl.Listen < tl.Main || tl.Hello < tl.Listen || tl.Now < tl.Hello {
		t.Errorf("Timeline = %+v; want it in this order", tl)
	}
	agent := fmt.Sprint("/proc/", info.AgentPid)
	for _, tt := range []struct {
		name   string
		applet []string
		want   string
	}{
		{"host name", []string{"hostname"}, "desk"},
		{"cgroup of the agent", []string{"cat", agent + "/cgroup"}, "0::/bellhop-agent"},
		{"OOM score of the agent", []string{"cat", agent + "/oom_score_adj"}, "-999"},
		{"OOM score of a process", []string{"cat", "/proc/self/oom_score_adj"}, "0"},
		{"open files of a process", []string{"sh", "-c", "ulimit -Sn"}, "1024"},
		{"working directory of the agent", []string{"readlink", agent + "/cwd"}, "/"},
		{"zombies", []string{"sh", "-c", busybox + " grep -l '^State:.Z' /proc/[0-9]*/status; true"}, ""},
	} {
		if got := output(t, vm, tt.applet...); got != tt.want {
			t.Errorf("%s = %q; want %q", tt.name, got, tt.want)
		}
	}
	if got := output(t, vm, "cat", "/proc/self/cgroup"); !strings.HasPrefix(got, "0::/bellhop/") {
		t.Errorf("cgroup of a process = %q; want one beneath /bellhop", got)
	}
	if console, want := vm.Machine.ConsoleTail(), "bellhop.nonsense from the kernel command line: no such key"; !strings.Contains(console, want) {
		t.Errorf("the console does not say %q; it says:\n%s", want, console)
	}
	vm.GoTest(t, ".", "-test.run=^TestServiceOnUnixSocket$")
}

// TestEndings ends guests in each way from within.
func TestEndings(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(ctx context.Context, vm *vmtest.VM) error
		want string // on the console
	}{
		{
			name: "shutdown",
			end:  func(ctx context.Context, vm *vmtest.VM) error { return vm.Client.Shutdown(ctx) },
			want: "bellhop-init: the agent exited with status 0; powering off",
		},
		{
			name: "reboot",
			end:  func(ctx context.Context, vm *vmtest.VM) error { return vm.Client.Reboot(ctx) },
			want: "bellhop-init: the agent exited with status 64; rebooting",
		},
		{
			name: "SIGTERM to PID 1",
			end:  func(ctx context.Context, vm *vmtest.VM) error { return signalGuest(ctx, vm, "TERM", 1) },
			want: "bellhop-init: the agent exited with status 0; powering off",
		},
		{
			name: "agent killed",
			end: func(ctx context.Context, vm *vmtest.VM) error {
				info, err := vm.Client.Info(ctx)
				if err != nil {
					return err
				}
				return signalGuest(ctx, vm, "KILL", info.AgentPid)
			},
			want: "bellhop-init: the agent was killed by signal 9 (Killed); powering off",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vm := vmtest.Start(t, vmtest.Busybox())
			if err := tt.end(testContext(t), vm); err != nil {
				t.Fatal(err)
			}
			console, _ := endOf(t, vm.Machine)
			if !strings.Contains(console, tt.want) {
				t.Errorf("the console does not say %q; it says:\n%s", tt.want, console)
			}
		})
	}
}

// signalGuest sends a signal to a process of the guest. The guest may end before it can say that it did, so the sender is started first and told then.
func signalGuest(ctx context.Context, vm *vmtest.VM, sig string, pid int) error {
	cmd := vm.Client.Command(ctx, busybox, "sh", "-c", fmt.Sprintf("read word; kill -%s %d", sig, pid))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = io.WriteString(stdin, "now\n")
	return err
}

func TestRefusesOtherCIDs(t *testing.T) {
	vm := vmtest.Start(t, vmtest.NoClient(), vmtest.KernelArgs("bellhop.port=2048", "bellhop.allow_cid=1,7"))
	conn := dial(t, vm.Machine, 2048)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(vmTimeout)); err != nil {
		t.Fatal(err)
	}
	if hello, err := protocol.ReadHello(conn); err == nil {
		t.Errorf("the agent said hello to CID 2: %v", hello)
	}
	want := "CID 2 is not one of those allowed, [1 7]"
	for deadline := time.Now().Add(vmTimeout); !strings.Contains(vm.Machine.ConsoleTail(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the console does not say %q; it says:\n%s", want, vm.Machine.ConsoleTail())
		}
	}
}

// dial tries until the agent listens.
func dial(t *testing.T, vm *vmm.VM, port uint32) net.Conn {
	t.Helper()
	ctx := testContext(t)
	for {
		conn, err := vm.Dial(ctx, port)
		if err == nil {
			return conn
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-vm.Done():
			t.Fatalf("the machine has ended: %v", vm.Wait())
		case <-ctx.Done():
			t.Fatalf("cannot dial port %d: %v", port, err)
		}
	}
}

func TestWithoutVsock(t *testing.T) {
	vm := vmtest.Start(t, vmtest.NoClient(), vmtest.KernelArgs("module_blacklist=vsock"))
	console, err := endOf(t, vm.Machine)
	if err != nil {
		t.Errorf("the machine ended with %v; want a power-off", err)
	}
	for _, want := range []string{
		"cannot load module /usr/lib/bellhop/modules/vsock.ko: ",
		"cannot listen on vsock port 1024: ",
		"the kernel needs the module vmw_vsock_virtio_transport",
		"bellhop-init: the agent exited with status 1; powering off",
	} {
		if !strings.Contains(console, want) {
			t.Errorf("the console does not say %q; it says:\n%s", want, console)
		}
	}
}
