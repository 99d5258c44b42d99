//go:build linux

package vmm

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// TestVsock boots a guest that echoes, hears it say that it is up, and gets back
// what it sends.
func TestVsock(t *testing.T) {
	for _, machine := range []Machine{MachineQ35, MachineMicroVM} {
		t.Run(machine.String(), func(t *testing.T) {
			cfg := testConfig(t, "echo")
			cfg.Machine, cfg.Vsock = machine, VsockUser
			vm := startVM(t, cfg)
			awaitUp(t, vm)
			t.Logf("start to first vsock connection: %v", time.Since(vm.StartTime()))
			conn, err := vm.Dial(t.Context(), 1024)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			echoBack(t, conn, 1<<20)
			vm.Close()
			if _, err := vm.Dial(t.Context(), 1024); !errors.Is(err, ErrClosed) {
				t.Errorf("Dial() after Close = %v; want %v", err, ErrClosed)
			}
			if _, err := io.ReadAll(conn); err == nil {
				t.Error("reading from a connection of a closed VM: no error; want one")
			}
		})
	}
}

// awaitUp listens where the guest dials when it serves.
func awaitUp(t *testing.T, vm *VM) {
	t.Helper()
	l, err := vm.Listen(1025)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		if conn, err := l.Accept(); err == nil {
			conn.Close()
		}
	}()
	select {
	case <-accepted:
	case <-vm.Done():
		<-accepted
		t.Fatalf("the guest ended before it was up: %v", vm.Wait())
	case <-time.After(testTimeout):
		l.Close()
		<-accepted
		t.Fatalf("the guest did not come up within %v", testTimeout)
	}
}

func echoBack(t *testing.T, conn net.Conn, size int) {
	t.Helper()
	sent := make([]byte, size)
	random := rand.NewChaCha8([32]byte{})
	random.Read(sent)
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		written <- err
	}()
	got := make([]byte, size)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Error("the echo differs from what was sent")
	}
}
