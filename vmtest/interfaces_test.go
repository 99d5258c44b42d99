package vmtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// cardAddress is that of the machine's network card, which leads to nobody.
const cardAddress = "52:54:00:0b:e1:10"

// withCard gives the machine a network card.
func withCard() vmtest.Option {
	return vmtest.Machine(func(c *vmm.Config) {
		c.ExtraArgs = append(c.ExtraArgs, "-netdev", "hubport,id=lan,hubid=0", "-device", "virtio-net-pci,netdev=lan,mac="+cardAddress)
	})
}

// link gives the line that ip(8) has for an interface of the guest; empty: there is none.
func (g *guest) link(t *testing.T, name string) string {
	t.Helper()
	return g.root(t, "ip -o link show "+name+" 2>/dev/null || true")
}

// testVeth moves one end of a pair of virtual interfaces into a pod: both containers of the pod have it, under its new name and with its old address, and are reached over it from the guest.
// With the pod it is destroyed, as the kernel does with interfaces that no hardware stands behind.
func testVeth(t *testing.T, g *guest) {
	// Busybox's ip cannot name the other end.
	g.root(t, "ip link add v-guest type veth && ip link set veth0 name v-pod && ip address add 10.99.0.1/24 dev v-guest && ip link set v-guest up && ip address add 10.99.0.2/24 dev v-pod")
	address := g.root(t, "cat /sys/class/net/v-pod/address")
	pod := g.newPod(t, hostclient.PodConfig{NetDevices: map[string]specs.LinuxNetDevice{"v-pod": {Name: "eth0"}}})
	if line := g.link(t, "v-pod"); line != "" {
		t.Errorf("the guest still has the interface: %s", line)
	}
	server := startIn(t, pod, containerSpec("echo hello | nc -l -p 80; "+forever))
	if got := g.root(t, "until nc 10.99.0.2 80; do sleep 0.1; done"); got != "hello" {
		t.Errorf("over the interface: %q; want hello", got)
	}
	out, err := pod.NewContainer("", containerSpec("ip -o address show eth0; ip -o link show eth0")).Init(deadline(t)).Output()
	if err != nil || !strings.Contains(string(out), "10.99.0.2/24") || !strings.Contains(string(out), address) {
		t.Errorf("in another container of the pod: %q, %v; want the address 10.99.0.2/24, %s", out, err, address)
	}
	if err := server.Process.KillAll(deadline(t), hostclient.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = server.Wait()
	if line := g.link(t, "v-guest"); line == "" {
		t.Error("the pair is gone with a container; want it to live with the pod")
	}
	if err := pod.Delete(deadline(t)); err != nil {
		t.Errorf("Delete() = %v; want no error", err)
	}
	eventually(t, "the end of the pair", func() bool { return g.link(t, "v-guest") == "" && g.link(t, "v-pod") == "" })
}

// testCard moves the machine's network card into containers, one after the other: it returns to the guest, under the name that it had last.
func testCard(t *testing.T, g *guest) {
	name := g.root(t, "grep -l "+cardAddress+" /sys/class/net/*/address 2>/dev/null | sed 's,/sys/class/net/,,; s,/address,,'")
	if name == "" {
		t.Fatalf("the guest has no card with the address %s: %s", cardAddress, g.root(t, "ls -l /sys/class/net; ip link"))
	}
	g.root(t, "ip address add 10.98.0.2/24 dev "+name)
	spec := func(old, now string) *specs.Spec {
		s := containerSpec(fmt.Sprintf("ip -o address show %[1]s; ip -o link show %[1]s", now))
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{old: {Name: now}}
		return s
	}
	status, out := g.run(t, hostclient.ProcessConfig{Spec: spec(name, "lan0")})
	if !status.Success() || !strings.Contains(out, "10.98.0.2/24") || !strings.Contains(out, cardAddress) || !strings.Contains(out, "UP") {
		t.Errorf("%v, %q; want the card, up and with its address", status, out)
	}
	eventually(t, "the card's return", func() bool { return strings.Contains(g.link(t, "lan0"), cardAddress) })
	// What fails behind the move gives the card back. It is not put down to the card, which the guest has not at that moment.
	bad := spec("lan0", "lan1")
	bad.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "perhaps"}
	if err := g.process(t, hostclient.ProcessConfig{Spec: bad}).Launch(deadline(t)); !errors.Is(err, errdefs.ErrUnknown) {
		t.Errorf("Launch() with a sysctl that fails = %v; want libcontainer's error", err)
	}
	eventually(t, "the card's return", func() bool { return strings.Contains(g.link(t, "lan0")+g.link(t, "lan1"), cardAddress) })

	if err := g.process(t, hostclient.ProcessConfig{Spec: spec("nothing0", "eth0")}).Launch(deadline(t)); err == nil || !strings.Contains(err.Error(), "nothing0") {
		t.Errorf("Launch() with an interface that does not exist = %v; want an error that names it", err)
	}
	host := spec("lan0", "eth0")
	hostclient.ShareNetwork(host)
	if err := g.process(t, hostclient.ProcessConfig{Spec: host}).Launch(deadline(t)); err == nil {
		t.Error("Launch() with an interface and the guest's own network = nil; want an error")
	}
}
