package vmtest_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// withInit describes a container whose first process is the built-in init.
func withInit(script string) hostclient.ProcessConfig {
	return hostclient.ProcessConfig{Spec: containerSpec(script), BuiltIn: hostclient.BuiltInInit}
}

// onlyMounts leaves a container no namespace of its own but its mounts.
func onlyMounts(cfg hostclient.ProcessConfig) hostclient.ProcessConfig {
	cfg.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	cfg.Spec.Hostname = ""
	return cfg
}

// testInitStatus ends programs in every way: the status is theirs, also where the init is the first process of a PID namespace, which cannot be killed by a signal of its own.
func testInitStatus(t *testing.T, g *guest) {
	for script, want := range map[string]hostclient.ExitStatus{
		"exit 0":                          {},
		"exit 42":                         {Code: 42},
		"exit 137":                        {Code: 137},
		"kill -TERM $$":                   {Signal: hostclient.SIGTERM},
		"kill -KILL $$":                   {Signal: hostclient.SIGKILL},
		"ulimit -c 0; kill -SEGV $$":      {Signal: hostclient.SIGSEGV},
		"(sleep 1000 &) >&- 2>&-; exit 3": {Code: 3},
	} {
		for name, cfg := range map[string]hostclient.ProcessConfig{"first": withInit(script), "among the guest's": onlyMounts(withInit(script))} {
			if status, _ := g.run(t, cfg); status.Code != want.Code || status.Signal != want.Signal || status.OOMKilled {
				t.Errorf("%s, %s: %+v; want code %d, signal %v", script, name, status, want.Code, want.Signal)
			}
		}
	}
}

// testInitSignals sends every signal that can be passed on; those that a program does not handle do to it what they do to an ordinary process.
func testInitSignals(t *testing.T, g *guest) {
	ctx := deadline(t)
	names := strings.Fields("HUP INT QUIT USR1 USR2 ALRM TERM CONT TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS")
	out := new(output)
	cfg := withInit(fmt.Sprintf("for s in %s; do trap \"echo got $s\" $s; done; echo ready; while :; do sleep 0.05; done", strings.Join(names, " ")))
	cfg.Stdout = out
	p := g.start(t, cfg)
	out.await(t, "ready\n")
	for _, name := range names {
		sig, err := hostclient.ParseSignal(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Kill(ctx, sig); err != nil {
			t.Errorf("Kill(%v) = %v; want no error", sig, err)
		}
		out.await(t, "got "+name+"\n")
	}
	// All of the container are told once: the program not by its init too.
	if err := p.KillAll(ctx, hostclient.SIGUSR1); err != nil {
		t.Errorf("KillAll() = %v; want no error", err)
	}
	if err := p.Kill(ctx, hostclient.SIGUSR2); err != nil {
		t.Errorf("Kill() = %v; want no error", err)
	}
	eventually(t, "the second SIGUSR2", func() bool { return strings.Count(out.String(), "got USR2") == 2 })
	if n := strings.Count(out.String(), "got USR1"); n != 2 {
		t.Errorf("the program got SIGUSR1 %d times; want 2", n)
	}

	p = g.start(t, withInit("exec sleep 100000"))
	state := func(want string) func() bool {
		return func() bool {
			return g.root(t, fmt.Sprintf("read c </proc/%[1]d/task/%[1]d/children; cut -d' ' -f3 /proc/$c/stat", p.Pid())) == want
		}
	}
	eventually(t, "the program to run", state("S"))
	for _, step := range []struct {
		sig  hostclient.Signal
		want string
	}{{hostclient.SIGTSTP, "T"}, {hostclient.SIGCONT, "S"}} {
		if err := p.Kill(ctx, step.sig); err != nil {
			t.Errorf("Kill(%v) = %v; want no error", step.sig, err)
		}
		eventually(t, "the state "+step.want, state(step.want))
	}
	if err := p.Kill(ctx, hostclient.SIGTERM); err != nil {
		t.Errorf("Kill() = %v; want no error", err)
	}
	if status, err := p.Wait(ctx); err != nil || status.Signal != hostclient.SIGTERM {
		t.Errorf("Wait() = %v, %v; want SIGTERM", status, err)
	}
}

// orphans is a script that leaves n processes, whose parent ends first, to be reaped by somebody else.
func orphans(n int) string {
	return fmt.Sprintf("i=0; while [ $i -lt %d ]; do (true &); i=$((i+1)); done", n)
}

// testInitReaps has a program leave its children behind; without an init they stay.
func testInitReaps(t *testing.T, g *guest) {
	const many = 100
	for name, cfg := range map[string]hostclient.ProcessConfig{
		"first":             withInit(forever),
		"among the guest's": onlyMounts(withInit(orphans(many) + "; echo done; " + forever)),
	} {
		out := new(output)
		if name != "first" {
			cfg.Stdout = out
		}
		p := g.start(t, cfg)
		if name == "first" {
			g.execIn(t, p, orphans(many))
		} else {
			out.await(t, "done\n")
		}
		eventually(t, name+": the end of all zombies", func() bool { return g.zombies(t, p) == "0" })
	}
	p := g.start(t, hostclient.ProcessConfig{Spec: containerSpec(forever)})
	g.execIn(t, p, orphans(10))
	eventually(t, "zombies where no init is", func() bool { return g.zombies(t, p) == "10" })
}

// zombies counts the processes that are children of a container's first one and not reaped.
func (g *guest) zombies(t *testing.T, p *hostclient.Process) string {
	t.Helper()
	return g.root(t, fmt.Sprintf("cat $(cat /proc/%[1]d/task/%[1]d/children | sed 's,\\([0-9]*\\) ,/proc/\\1/stat ,g') </dev/null | grep -c ') Z ' || true", p.Pid()))
}

// testInitTerminal types at a program whose init leads the session: it has the terminal, and the control of jobs.
func testInitTerminal(t *testing.T, g *guest) {
	out := new(output)
	in, feed := io.Pipe()
	defer feed.Close()
	cfg := onTerminal(withInit("trap 'echo interrupted' INT; echo up; until read x; do :; done; echo got $x; exec sh -i"))
	cfg.Stdin, cfg.Stdout = in, out
	p := g.start(t, cfg)
	out.await(t, "up\r\n")
	_, _ = io.WriteString(feed, "\x03")
	out.await(t, "interrupted\r\n")
	_, _ = io.WriteString(feed, "word\n")
	out.await(t, "got word\r\n")
	out.await(t, "/ # ")
	_, _ = io.WriteString(feed, "sh -c 'while read x; do echo \"<$x>\"; done'\n")
	_, _ = io.WriteString(feed, "job\n")
	out.await(t, "<job>\r\n")
	_, _ = io.WriteString(feed, "\x1a")
	out.await(t, "Stopped")
	_, _ = io.WriteString(feed, "exit 5\n")
	out.await(t, "You have stopped jobs")
	_, _ = io.WriteString(feed, "exit 5\n")
	if status, err := p.Wait(deadline(t)); err != nil || status.Code != 5 || strings.Contains(out.String(), "job control") {
		t.Errorf("Wait() = %v, %v, output %q; want code 5, and no complaint", status, err, out)
	}
}

// testInitErrors names programs that cannot be executed, some of which only the execve finds out.
func testInitErrors(t *testing.T, g *guest) {
	g.root(t, "mkdir -p tmp/programs; printf '\\177ELF garbage' >tmp/programs/garbage; echo '#!/bin/nope' >tmp/programs/script; chmod 755 tmp/programs/*")
	for program, want := range map[string]error{
		"/bin/nope": errdefs.ErrNotFound, "nope": errdefs.ErrNotFound, "/etc/passwd": errdefs.ErrPermissionDenied,
		"garbage": errdefs.ErrPermissionDenied, "script": errdefs.ErrNotFound,
	} {
		cfg := withInit("")
		cfg.Spec.Process.Args = []string{program}
		cfg.Spec.Process.Env = []string{"PATH=:/nowhere:/tmp/programs:/bin"}
		p := g.process(t, cfg)
		if err := p.Launch(deadline(t)); !errors.Is(err, want) || !strings.Contains(err.Error(), "exec "+program+": ") {
			t.Errorf("%s: Launch() = %v; want %v", program, err, want)
		}
	}
	for name, change := range map[string]func(*hostclient.ProcessConfig){
		"mounts": func(c *hostclient.ProcessConfig) { c.Spec.Mounts = c.Spec.Mounts[1:] },
		"process.scheduler.flags": func(c *hostclient.ProcessConfig) {
			c.Spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
		},
		"built_in: no such":         func(c *hostclient.ProcessConfig) { c.BuiltIn = 99 },
		"built_in: not with an ext": func(c *hostclient.ProcessConfig) { c.ExternalRuntime = "/usr/bin/crun" },
		"process.args":              func(c *hostclient.ProcessConfig) { c.BuiltIn = hostclient.BuiltInPause },
		"process.terminal": func(c *hostclient.ProcessConfig) {
			c.BuiltIn, c.Spec.Process.Args, c.Spec.Process.Terminal = hostclient.BuiltInPause, nil, true
		},
		"user nobody": func(c *hostclient.ProcessConfig) {
			c.BuiltIn, c.Spec.Process.Args, c.Spec.Root, c.Spec.Process.User.Username = hostclient.BuiltInPause, nil, nil, "nobody"
		},
	} {
		cfg := withInit("true")
		change(&cfg)
		if err := g.process(t, cfg).Launch(deadline(t)); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), name) {
			t.Errorf("Launch() = %v; want errdefs.ErrInvalidArgument with %q", err, name)
		}
	}
}

// testInitUser runs a program without privilege, in users of the guest and of its own.
func testInitUser(t *testing.T, g *guest) {
	for name, cfg := range map[string]hostclient.ProcessConfig{"the guest's users": withInit(""), "users of its own": {Spec: withUsers(containerSpec("")), BuiltIn: hostclient.BuiltInInit}} {
		cfg.Spec.Process.Args = []string{"id"}
		cfg.Spec.Process.User = specs.User{UID: 65534, GID: 65534}
		if status, out := g.run(t, cfg); !status.Success() || out != "uid=65534(nobody) gid=65534(nobody)\n" {
			t.Errorf("%s: %v, output %q; want nobody", name, status, out)
		}
	}
}

// testInitBinary tries to overwrite the agent's binary, which runs in the container, while it runs and by a descriptor that outlives it (runc's CVE-2019-5736).
func testInitBinary(t *testing.T, g *guest) {
	ctx := deadline(t)
	agent := fmt.Sprintf("sha256sum </proc/%d/exe", g.agentPid(t))
	before := g.root(t, agent)
	owner := g.start(t, hostclient.ProcessConfig{Spec: containerSpec(forever)})
	victim := g.start(t, hostclient.ProcessConfig{
		Spec: containerSpec(forever), BuiltIn: hostclient.BuiltInInit, Share: []hostclient.Share{{Type: specs.PIDNamespace, Container: owner.ID()}},
	})
	out := new(output)
	in, feed := io.Pipe()
	attack := hostclient.ProcessConfig{Container: owner.ID(), Stdin: in, Stdout: out, Process: g.script(further, `for d in /proc/[0-9]*; do if [ "$(cat $d/comm)" = init ]; then pid=${d#/proc/}; fi; done
		exec 9</proc/$pid/exe; head -c 4 <&9; (echo x >/proc/$pid/exe) 2>&1; chmod 777 /proc/$pid/exe 2>/dev/null; echo holding; read x
		(echo x >/proc/self/fd/9) 2>&1 && echo overwritten; echo done`).Process}
	attacker := g.start(t, attack)
	out.await(t, "holding\n")
	if _, err := victim.ForceDelete(ctx); err != nil {
		t.Errorf("ForceDelete() = %v; want no error", err)
	}
	_, _ = io.WriteString(feed, "\n")
	_ = feed.Close()
	if status, err := attacker.Wait(ctx); err != nil || !status.Success() {
		t.Errorf("Wait() = %v, %v; want success", status, err)
	}
	if !strings.HasPrefix(out.String(), "\x7fELF") || strings.Contains(out.String(), "overwritten") || !strings.HasSuffix(out.String(), "done\n") {
		t.Errorf("the attack says %q; want it to have read, and not written", out)
	}
	if after := g.root(t, agent); after != before {
		t.Error("the agent's binary has changed")
	}
}
