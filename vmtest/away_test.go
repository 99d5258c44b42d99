package vmtest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// TestAway has the only client leave: processes with an AwayTimeout are ended when it is over, others live on.
func TestAway(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	vm := vmtest.Start(t, vmtest.Busybox(), vmtest.NoClient())
	client := connect(t, vm)
	for _, cfg := range []hostclient.ProcessConfig{
		{ID: "faithful"},
		{ID: "alone", AwayTimeout: time.Second},
		{ID: "waiting", AwayTimeout: time.Second},
	} {
		cfg.Process = &specs.Process{Args: []string{vmtest.Rootfs + "/bin/busybox", "sleep", "1000"}}
		p, err := client.NewProcess(cfg)
		if err != nil {
			t.Fatal(err)
		}
		start := p.Launch
		if cfg.ID == "waiting" {
			start = p.Create
		}
		if err := start(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	client.Close()
	const logged = "ending a process whose host stays away"
	for ctx := deadline(t); strings.Count(vm.Machine.ConsoleTail(), logged) < 2; time.Sleep(50 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("the agent does not say twice %q", logged)
		}
	}
	client = connect(t, vm)
	alone, err := client.Attach(deadline(t), "alone", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := alone.Wait(deadline(t)); err != nil || status.Signal != hostclient.SIGKILL {
		t.Errorf("Wait() of the process that was left alone = %+v, %v; want it killed", status, err)
	}
	if _, err := client.Attach(deadline(t), "waiting", nil); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Attach() to the process that was not started = %v; want not found", err)
	}
	faithful, err := client.Attach(deadline(t), "faithful", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := faithful.Kill(deadline(t), hostclient.SIGKILL); err != nil {
		t.Errorf("Kill() of the process without an AwayTimeout = %v; want it to live", err)
	}
}

func connect(t *testing.T, vm *vmtest.VM) *hostclient.Client {
	t.Helper()
	client, err := hostclient.Connect(deadline(t), vm.Machine, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}
