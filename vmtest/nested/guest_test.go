package nested

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// innerCID is not that of the outer machine, which is 3: Linux connects its own CID to itself.
const innerCID = 42

// patience bounds the whole life of the inner machine.
const patience = 5 * time.Minute

// TestInGuest boots the inner machine and drives it.
func TestInGuest(t *testing.T) {
	if os.Getenv("BELLHOP_IN_GUEST") == "" {
		t.Skip("needs a guest, since a host's vsock device is not ours to use: TestNested runs this there")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	vm, err := vmm.Start(ctx, innerConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	transport := &cuttable{Transport: hostclient.Vsock(innerCID)}
	client, err := hostclient.Connect(ctx, transport, nil)
	if err != nil {
		t.Fatalf("Connect() = %v; the machine's console ends:\n%s", err, vm.ConsoleTail())
	}
	defer client.Close()
	t.Logf("start to hello: %v", time.Since(vm.StartTime()).Round(time.Millisecond))
	if vm.Accel() != vmm.AccelKVM {
		t.Errorf("Accel() = %v; want KVM, which works here", vm.Accel())
	}

	t.Run("Stdio", func(t *testing.T) { testStdio(ctx, t, client) })
	t.Run("Strangers", func(t *testing.T) { testStrangers(ctx, t) })
	t.Run("Exec", func(t *testing.T) { testExec(ctx, t, client) })
	t.Run("LostConnections", func(t *testing.T) { testLostConnections(ctx, t, client, transport) })
	t.Run("Machine", func(t *testing.T) { testMachine(ctx, t, vm) })
}

func innerConfig() vmm.Config {
	return vmm.Config{QEMU: qemuPath, Kernel: kernelPath, Initrd: initrdPath, Memory: 256 << 20, CPUs: 1, Vsock: vmm.VsockVhost, CID: innerCID}
}

// patiently gives a process time to connect its streams, in a machine that is emulated twice.
func patiently(c *hostclient.ProcessConfig) { c.ConnectTimeout = time.Minute }

// testStdio has a process of which all three streams are used, and which fails.
func testStdio(ctx context.Context, t *testing.T, client *hostclient.Client) {
	in := make([]byte, 300_000)
	rand.Read(in)
	var out, complaints bytes.Buffer
	cmd := client.Command(ctx, busybox, "sh", "-c", busybox+" cat; echo complaint >&2; exit 42")
	cmd.Config, cmd.Stdin, cmd.Stdout, cmd.Stderr = patiently, bytes.NewReader(in), &out, &complaints
	if code := hostclient.ShellCode(cmd.Run()); code != 42 {
		t.Errorf("code = %d; want 42", code)
	}
	if !bytes.Equal(out.Bytes(), in) || complaints.String() != "complaint\n" {
		t.Errorf("%d of %d bytes came back, the same: %t; stderr = %q", out.Len(), len(in), bytes.Equal(out.Bytes(), in), complaints.Bytes())
	}
}

// testExec has a container, and a further process in it.
func testExec(ctx context.Context, t *testing.T, client *hostclient.Client) {
	container := client.NewContainer("nested", hostclient.DefaultSpec(vmtest.Rootfs, "/bin/busybox", "sleep", "100000"))
	init := container.Init(ctx)
	init.Config = patiently
	if err := init.Start(); err != nil {
		t.Fatal(err)
	}
	exec := container.Command(ctx, "/bin/busybox", "ls", "/bin")
	exec.Config = func(c *hostclient.ProcessConfig) {
		patiently(c)
		c.Process.User = specs.User{UID: 1000}
	}
	if out, err := exec.Output(); string(out) != "busybox\n" {
		t.Errorf("ls in the container = %q, %v; want busybox", out, err)
	}
	if _, err := init.Process.ForceDelete(ctx); err != nil {
		t.Error(err)
	}
}

// testLostConnections loses every connection several times in the middle of a conversation.
func testLostConnections(ctx context.Context, t *testing.T, client *hostclient.Client, transport *cuttable) {
	cmd := client.Command(ctx, busybox, "cat")
	cmd.Config = patiently
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	part, echo := make([]byte, 10_000), make([]byte, 10_000)
	for round := range 4 {
		rand.Read(part)
		if round > 0 {
			if n := transport.cut(); n < 2 {
				t.Errorf("%d connections were cut; want that of the calls and those of the streams", n)
			}
		}
		if _, err := in.Write(part); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, echo); err != nil || !bytes.Equal(echo, part) {
			t.Fatalf("round %d: cat gives back the same: %t, %v", round, bytes.Equal(echo, part), err)
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := client.Ping(ctx); err != nil {
		t.Errorf("Ping() on a new connection = %v; want no error", err)
	}
}

// testMachine looks at what package vmm says of a machine whose vsock is the kernel's: it has no dialling of its own, its CID is taken while it runs, and free after its end.
func testMachine(ctx context.Context, t *testing.T, vm *vmm.VM) {
	if _, err := vm.Dial(ctx, 1024); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Dial() = %v; want errors.ErrUnsupported", err)
	}
	if second, err := vmm.Start(ctx, innerConfig()); err == nil || !strings.Contains(err.Error(), "cid") {
		t.Errorf("Start() with a CID that is taken = %v; want an error that names it", err)
		if err == nil {
			second.Close()
		}
	}
	vm.Close()
	again, err := vmm.Start(ctx, innerConfig())
	if err != nil {
		t.Fatalf("Start() with a CID that was given back = %v; want no error", err)
	}
	again.Close()
}
