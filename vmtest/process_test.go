package vmtest_test

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmm"
	"github.com/bellhop-vm/bellhop/vmm/vsockdev"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// TestProcesses shows the process model in one machine: what a host can do with a process, outside containers, as a container's first process and as a further one,
// with and without a terminal. The other files of this directory hold its parts.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	g := newGuest(t)
	t.Run("Independent", func(t *testing.T) {
		for _, tt := range []struct {
			name string
			test func(*testing.T, *guest)
		}{
			{"Lifecycle", testLifecycle},
			{"Launch", testLaunch},
			{"StartErrors", testStartErrors},
			{"FailedStartReleasesWaiters", testFailedStartReleasesWaiters},
			{"FailedListen", testFailedListen},
			{"ExitTail", testExitTail},
			{"LargeOutput", testLargeOutput},
			{"ReaderSlowerThanTheDrainBound", testSlowReader},
			{"HeldOutput", testHeldOutput},
			{"HeldTerminal", testHeldTerminal},
			{"FailingWriter", testFailingWriter},
			{"StdinBeforeStart", testStdinBeforeStart},
			{"StdinMeetsStdout", testStdinMeetsStdout},
			{"StdinAndCloseStdinRace", testCloseStdinRace},
			{"BlockedStdin", testBlockedStdin},
			{"ProcessClosesStdin", testProcessClosesStdin},
			{"FailingReader", testFailingReader},
			{"NoStdin", testNoStdin},
			{"Kill", testKill},
			{"KillAll", testKillAll},
			{"KillStopped", testKillStopped},
			{"KillErrors", testKillErrors},
			{"WaitByMany", testWaitByMany},
			{"WaitGivesUp", testWaitGivesUp},
			{"CoreDump", testCoreDump},
			{"OutOfMemory", testOutOfMemory},
			{"Delete", testDelete},
			{"ForceDelete", testForceDelete},
			{"Survivors", testSurvivors},
			{"NestedCgroups", testNestedCgroups},
			{"Frozen", testFrozen},
			{"PauseContainer", testPauseContainer},
			{"EndPaused", testEndPaused},
			{"PauseBesideExecs", testPauseBesideExecs},
			{"PauseBesideSignals", testPauseBesideSignals},
			{"PauseIsWatched", testPauseIsWatched},
			{"Update", testUpdate},
			{"FailedUpdate", testFailedUpdate},
			{"Statistics", testStatistics},
			{"StatisticsOfAll", testStatisticsOfAll},
			{"StatisticsBesideKills", testStatisticsBesideKills},
			{"Terminal", testTerminal},
			{"TerminalEndOfInput", testTerminalEndOfInput},
			{"TerminalTakesMuch", testTerminalTakesMuch},
			{"Resize", testResize},
			{"Conversation", testConversation},
			{"OtherClient", testOtherClient},
			{"TakeOver", testTakeOver},
			{"NewClient", testNewClient},
			{"Privileges", testPrivileges},
			{"ManyAtOnce", testManyAtOnce},
			{"SlowHooks", testSlowHooks},
			{"WaitingHooks", testWaitingHooks},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				tt.test(t, g)
			})
		}
	})
	// These do something to the whole machine.
	t.Run("ReusedPid", func(t *testing.T) { testReusedPid(t, g) })
	t.Run("StreamThatDoesNotCome", func(t *testing.T) { testMissingStream(t, g) })
	t.Run("Crowd", func(t *testing.T) { testCrowd(t, g) })
	t.Run("Pause", func(t *testing.T) { testPause(t, g) })
	t.Run("ExactlyOnce", func(t *testing.T) { testExactlyOnce(t, g) })
	t.Run("NothingIsLeft", func(t *testing.T) { testNothingIsLeft(t, g) })
}

// guest is the machine that these tests share.
type guest struct {
	*vmtest.VM
	base   string // a container that lives as long as the machine
	fds    int    // of the agent when the machine was young
	faults atomic.Pointer[func(vsockdev.ConnInfo) []vsockdev.Fault]
}

// The guest has files with the output of seq, which every place sees as tmp/tail and tmp/large: one is larger than a pipe, the other than a ring.
const (
	tailLines  = 20_000  // 108,894 bytes
	largeLines = 200_000 // 1,288,894 bytes
)

// patience bounds every wait, without KVM on a busy host.
const patience = 2 * time.Minute

func newGuest(t *testing.T, opts ...vmtest.Option) *guest {
	t.Helper()
	g := &guest{base: "base"}
	device := &vsockdev.Config{Fault: func(info vsockdev.ConnInfo) []vsockdev.Fault {
		if f := g.faults.Load(); f != nil {
			return (*f)(info)
		}
		return nil
	}}
	g.VM = vmtest.Start(t, append(opts, vmtest.Busybox(), vmtest.Machine(func(c *vmm.Config) { c.DeviceConfig = device }))...)
	base := g.process(t, hostclient.ProcessConfig{ID: g.base, Spec: containerSpec("sleep 100000")})
	if err := base.Launch(deadline(t)); err != nil {
		t.Fatalf("Launch() of the container for execs = %v; want no error", err)
	}
	g.root(t, fmt.Sprintf("seq 1 %d >tmp/tail; seq 1 %d >tmp/large", tailLines, largeLines))
	g.fds = g.agentFDs(t)
	return g
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// place is where a process can run.
type place int

const (
	outside place = iota // of every container
	first                // process of a container of its own
	further              // process of a container that exists
)

func (p place) String() string { return [...]string{"outside", "first", "further"}[p] }

func everyPlace() []place { return []place{outside, first, further} }

// inEveryPlace runs test as one subtest a place.
func inEveryPlace(t *testing.T, test func(*testing.T, place)) {
	t.Helper()
	for _, p := range everyPlace() {
		t.Run(p.String(), func(t *testing.T) { test(t, p) })
	}
}

// script describes a process that runs a script of Busybox's shell, in the root of Busybox.
func (g *guest) script(p place, script string) hostclient.ProcessConfig {
	switch p {
	case first:
		return hostclient.ProcessConfig{Spec: containerSpec(script)}
	case further:
		return hostclient.ProcessConfig{Container: g.base, Process: &specs.Process{
			Args: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"},
		}}
	}
	return hostclient.ProcessConfig{Process: &specs.Process{
		Args: []string{vmtest.Rootfs + "/bin/sh", "-c", script}, Cwd: vmtest.Rootfs, Env: []string{"PATH=" + vmtest.Rootfs + "/bin"},
	}}
}

func containerSpec(script string) *specs.Spec {
	return hostclient.DefaultSpec(vmtest.Rootfs, "/bin/sh", "-c", script)
}

// ociProcess gives the part of a configuration that says what to run.
func ociProcess(cfg *hostclient.ProcessConfig) *specs.Process {
	if cfg.Spec != nil {
		return cfg.Spec.Process
	}
	return cfg.Process
}

func onTerminal(cfg hostclient.ProcessConfig) hostclient.ProcessConfig {
	ociProcess(&cfg).Terminal = true
	return cfg
}

// process makes the object of a process, which ends with the test.
func (g *guest) process(t *testing.T, cfg hostclient.ProcessConfig) *hostclient.Process {
	t.Helper()
	p, err := g.Client.NewProcess(cfg)
	if err != nil {
		t.Fatalf("NewProcess(…) = %v; want no error", err)
	}
	t.Cleanup(func() {
		if _, err := p.ForceDelete(deadline(t)); err != nil {
			t.Errorf("ForceDelete() at the end = %v; want no error", err)
		}
	})
	return p
}

// start makes a process that runs.
func (g *guest) start(t *testing.T, cfg hostclient.ProcessConfig) *hostclient.Process {
	t.Helper()
	p := g.process(t, cfg)
	if err := p.Launch(deadline(t)); err != nil {
		t.Fatalf("Launch() = %v; want no error", err)
	}
	return p
}

// run runs a process to its end and gives its status and what it wrote to the standard output.
func (g *guest) run(t *testing.T, cfg hostclient.ProcessConfig) (hostclient.ExitStatus, string) {
	t.Helper()
	var out bytes.Buffer
	cfg.Stdout = &out
	status, err := g.start(t, cfg).Wait(deadline(t))
	if err != nil {
		t.Fatalf("Wait() = %v; want no error", err)
	}
	return status, out.String()
}

// root runs a script outside containers and gives its output without the last newline.
func (g *guest) root(t *testing.T, script string) string {
	t.Helper()
	cfg := g.script(outside, script)
	cmd := g.Client.Command(deadline(t), cfg.Process.Args[0], cfg.Process.Args[1:]...)
	cmd.Env, cmd.Dir = cfg.Process.Env, cfg.Process.Cwd
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v, output %q", script, err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// processes lists the guest's processes whose id, state or command line matches a regular expression.
func (g *guest) processes(t *testing.T, pattern string) []string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	all := strings.Split(g.root(t, "ps -o pid,stat,args"), "\n")
	return slices.DeleteFunc(all, func(line string) bool { return !want.MatchString(line) })
}

// info finds a process in the guest's list.
func (g *guest) info(t *testing.T, id string) (hostclient.ProcessInfo, bool) {
	t.Helper()
	list, err := g.Client.List(deadline(t))
	if err != nil {
		t.Fatalf("List() = %v; want no error", err)
	}
	for _, info := range list {
		if info.ID == id {
			return info, true
		}
	}
	return hostclient.ProcessInfo{}, false
}

// otherClient connects once more to the same guest.
func (g *guest) otherClient(t *testing.T) *hostclient.Client {
	t.Helper()
	c, err := hostclient.Connect(deadline(t), g.Machine, nil)
	if err != nil {
		t.Fatalf("Connect(…) = %v; want no error", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// output is a Writer whose content can be waited for.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	grown chan struct{} // closed by the next Write; nil: nobody waits
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grown != nil {
		close(o.grown)
		o.grown = nil
	}
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await waits until the output has text in it.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		o.mu.Lock()
		if o.grown == nil {
			o.grown = make(chan struct{})
		}
		have, grown := o.buf.String(), o.grown
		o.mu.Unlock()
		if strings.Contains(have, text) {
			return
		}
		select {
		case <-grown:
		case <-timeout:
			t.Fatalf("the output is %q; want %q in it", have, text)
		}
	}
}

// eventually polls a condition that nothing announces.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// counter gives a hook for deletion and the number of its calls.
func counter() (hook func(), calls func() int) {
	var n atomic.Int32
	return func() { n.Add(1) }, func() int { return int(n.Load()) }
}

// numbered gives the output of `seq 1 to`.
func numbered(to int) string {
	var b strings.Builder
	for i := 1; i <= to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}
