// Package loopback tests AF_VSOCK for real: in a guest, where vsock_loopback makes CID 1 the guest itself, an agent and a client talk over it.
package loopback

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

const (
	agentPath = "/run/second-bellhopd"
	cidLocal  = 1 // VMADDR_CID_LOCAL of vsock(7)
	port      = 2048
)

// TestVsock runs TestInGuest where AF_VSOCK may be used.
func TestVsock(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	vm := vmtest.Start(t, vmtest.Busybox(), vmtest.Modules("vsock_loopback"))
	vm.Upload(t, vm.Guest.Agent, agentPath)
	vm.GoTest(t, ".", "-test.run=^TestInGuest")
}

// needGuest skips what TestVsock runs in a guest: a host's vsock device is not ours to use.
func needGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("BELLHOP_IN_GUEST") == "" {
		t.Skip("needs AF_VSOCK of a guest: run TestVsock, which runs this there")
	}
}

// TestInGuest runs a second agent, as a service that accepts the local CID, and drives it.
func TestInGuest(t *testing.T) {
	needGuest(t)
	startAgent(t, "1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := hostclient.Connect(ctx, hostclient.Vsock(cidLocal), &hostclient.Config{ControlPort: port})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	in := make([]byte, 4<<20+3)
	rand.Read(in)
	cmd := client.Command(ctx, vmtest.Rootfs+"/bin/busybox", "cat")
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(out, in) {
		t.Errorf("cat gave back %d of %d bytes, the same: %t; %v", len(out), len(in), bytes.Equal(out, in), err)
	}
	err = client.Command(ctx, vmtest.Rootfs+"/bin/busybox", "sh", "-c", "exit 42").Run()
	if code := hostclient.ShellCode(err); code != 42 {
		t.Errorf("exit 42 gives code %d, %v; want 42", code, err)
	}
}

// TestInGuestRefused shows that an agent that accepts the host only does not talk to a process of its own machine.
func TestInGuestRefused(t *testing.T) {
	needGuest(t)
	_, logs := startAgent(t, "2")
	conn, err := hostclient.Vsock(cidLocal).Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := io.Copy(io.Discard, conn); n > 0 {
		t.Errorf("the agent says %d bytes to CID 1 (%v); want none", n, err)
	}
	logs("CID 1 is not one of those allowed")
}

// startAgent runs the agent until the test ends, and returns its pid and a function that waits until it has logged a text.
func startAgent(t *testing.T, allow string) (pid int, logs func(want string)) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(agentPath, "--port", "2048", "--allow-cid", allow, "--cgroups=false", "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var log bytes.Buffer
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		rest, _ := io.ReadAll(r)
		t.Logf("the agent's log:\n%s%s", log.Bytes(), rest)
	})
	logs = func(want string) {
		t.Helper()
		_ = r.SetReadDeadline(time.Now().Add(time.Minute))
		buf := make([]byte, 1)
		for !strings.Contains(log.String(), want) {
			if _, err := r.Read(buf); err != nil {
				t.Fatalf("waiting for the agent to log %q: %v\n%s", want, err, log.Bytes())
			}
			log.Write(buf)
		}
	}
	logs("listening")
	return cmd.Process.Pid, logs
}
