//go:build linux

package speccheck

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// TestExplain has errors of containers that could not be made, and which field gets the blame; none where that is not known.
func TestExplain(t *testing.T) {
	unknown := errors.New("libcontainer: something")
	sysctl := func(name string) *specs.Linux { return &specs.Linux{Sysctl: map[string]string{name: "1"}} }
	for _, tt := range []struct {
		what  string
		linux *specs.Linux
		err   error
		field string
	}{
		{"a sysctl that is missing", sysctl("net.ipv4.no_such_thing"), unknown, "linux.sysctl"},
		{"a sysctl that is there", sysctl("kernel.hostname"), unknown, ""},
		{"a sysctl of the container's interface", sysctl("net.ipv4.conf.none7.rp_filter"), unknown, ""},
		{"a sysctl of an interface with a dot", sysctl("net/ipv6/neigh/none7.1/delay_first_probe_time"), unknown, ""},
		{"an interface that was moved", &specs.Linux{NetDevices: map[string]specs.LinuxNetDevice{"none7": {}}}, unknown, ""},
		{"an interface that was not found", new(specs.Linux), fmt.Errorf("libcontainer: %w", netlink.LinkNotFoundError{}), "linux.netDevices"},
		{"an error with a code", sysctl("net.ipv4.no_such_thing"), errdefs.ErrNotFound, ""},
	} {
		got := Explain(&specs.Spec{Linux: tt.linux, Process: new(specs.Process)}, tt.err)
		if field := failure.Status(got).Field; field != tt.field {
			t.Errorf("%s: Explain() = %v, of the field %q; want %q", tt.what, got, field, tt.field)
		}
		if tt.field == "" && got != tt.err {
			t.Errorf("%s: Explain() = %v; want %v as it is", tt.what, got, tt.err)
		}
	}
}
