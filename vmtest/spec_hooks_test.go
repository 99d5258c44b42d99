package vmtest_test

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
	"github.com/bellhop-vm/bellhop/vmtest"
)

// guestBusybox is Busybox in the guest's root.
const guestBusybox = vmtest.Rootfs + "/bin/busybox"

// guestHook is a script that runs in the guest's root, or before the change of roots; containerHook one that runs in the container's.
func guestHook(script string) []specs.Hook { return hookOf(guestBusybox, script) }

func containerHook(script string) []specs.Hook { return hookOf("/bin/busybox", script) }

func hookOf(busybox, script string) []specs.Hook {
	return []specs.Hook{{Path: busybox, Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:" + vmtest.Rootfs + "/bin", "KIND=hook"}}}
}

// everyHook has a hook of each kind, with the script that a function gives for the kind.
func everyHook(script func(kind string) string) *specs.Hooks {
	return &specs.Hooks{
		//lint:ignore SA1019 deprecated, and supported
		Prestart:        guestHook(script("prestart")),
		CreateRuntime:   guestHook(script("createRuntime")),
		CreateContainer: guestHook(script("createContainer")),
		StartContainer:  containerHook(script("startContainer")),
		Poststart:       guestHook(script("poststart")),
		Poststop:        guestHook(script("poststop")),
	}
}

// testHooks has each hook write down its kind and its state, and looks at the order of the container's life.
func testHooks(t *testing.T, g *guest) {
	const log = vmtest.Rootfs + "/tmp/hooks" // which the container has as /tmp/hooks
	g.root(t, "rm -f "+log)
	spec := containerSpec("echo program $KIND >>/tmp/hooks; read line")
	spec.Annotations = map[string]string{"org.example.key": "value"}
	spec.Hooks = everyHook(func(kind string) string {
		file := log
		if kind == "startContainer" {
			file = "/tmp/hooks"
		}
		return "echo " + kind + " $KIND $(cat) >>" + file
	})
	in, feed := io.Pipe()
	cfg := hostclient.ProcessConfig{ID: "hooked", Spec: spec, Stdin: in}
	p := g.process(t, cfg)
	if err := p.Create(deadline(t)); err != nil {
		t.Fatal(err)
	}
	wantHooks(t, g.root(t, "cat "+log), "prestart creating", "createRuntime creating", "createContainer creating")
	if err := p.Start(deadline(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program", func() bool { return strings.Contains(g.root(t, "cat "+log), "program") })
	feed.Close()
	if _, err := p.Wait(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(deadline(t)); err != nil {
		t.Fatal(err)
	}
	text := g.root(t, "grep -v ^program "+log)
	wantHooks(t, text, "prestart creating", "createRuntime creating", "createContainer creating", "startContainer created", "poststart running", "poststop stopped")
}

// wantHooks compares the kinds and the states' statuses.
func wantHooks(t *testing.T, log string, want ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(log) {
		kind, text, _ := strings.Cut(line, " hook ")
		var s specs.State
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Errorf("the state of %s is %q: %v", kind, text, err)
			continue
		}
		got = append(got, kind+" "+string(s.Status))
		if s.ID != "hooked" || s.Annotations["org.example.key"] != "value" || (s.Pid == 0) != (kind == "poststop") {
			t.Errorf("the state of %s = %+v; want the container's id, annotations and pid", kind, s)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("hooks %q; want %q", got, want)
	}
}

// testHookNamespaces looks where the hooks run: those of the guest in its namespaces, the others in the container's, before and after the change of roots.
func testHookNamespaces(t *testing.T, g *guest) {
	const log = vmtest.Rootfs + "/tmp/places"
	g.root(t, "rm -f "+log)
	spec := containerSpec("true")
	spec.Hooks = everyHook(func(kind string) string {
		file, root := log, "guest"
		if kind == "startContainer" {
			file, root = "/tmp/places", "container"
		}
		return "test -d /rootfs && r=guest || r=container; test $r = " + root + " && echo " + kind + " $(readlink /proc/self/ns/uts) $(readlink /proc/self/ns/mnt) >>" + file
	})
	g.run(t, hostclient.ProcessConfig{Spec: spec})
	own := g.root(t, "echo $(readlink /proc/self/ns/uts) $(readlink /proc/self/ns/mnt)")
	inside := map[string]bool{"createContainer": true, "startContainer": true}
	lines := strings.Split(g.root(t, "cat "+log), "\n")
	for _, line := range lines {
		kind, place, _ := strings.Cut(line, " ")
		if (place != own) != inside[kind] {
			t.Errorf("%s ran in %s; the guest's are %s", kind, place, own)
		}
	}
	if len(lines) < 5 { // the last comes with the delete
		t.Errorf("hooks that ran in their places: %q; want five", lines)
	}
}

// testFailingHooks has one hook of each kind fail: those before and at the start fail the operation, those after the end change nothing, and the next still runs.
func testFailingHooks(t *testing.T, g *guest) {
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart"} {
		spec := containerSpec("sleep 1000")
		spec.Hooks = everyHook(func(k string) string {
			if k == kind {
				return "echo no such file or directory; exit 3"
			}
			return "true"
		})
		p := g.process(t, hostclient.ProcessConfig{Spec: spec})
		err := p.Create(deadline(t))
		atStart := kind == "startContainer" || kind == "poststart"
		if atStart {
			if err != nil {
				t.Errorf("Create() with a failing %s hook = %v; want no error", kind, err)
			}
			err = p.Start(deadline(t))
		}
		if err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("%s: %v; want an error that says exit status 3", kind, err)
		}
	}
	const ran = vmtest.Rootfs + "/tmp/last"
	spec := containerSpec("true")
	spec.Hooks = &specs.Hooks{Poststop: append(guestHook("exit 3"), guestHook("touch "+ran)...)}
	p := g.start(t, hostclient.ProcessConfig{Spec: spec})
	if _, err := p.Wait(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(deadline(t)); err != nil {
		t.Errorf("Delete() with a failing poststop hook = %v; want no error", err)
	}
	g.root(t, "rm "+ran)
}

// testHookTimeouts has hooks that take too long, also one that has ended but left somebody with its output.
func testHookTimeouts(t *testing.T, g *guest) {
	const lingering = "sleep 1000 & exit 0"
	for name, tt := range map[string]struct {
		hooks *specs.Hooks
		fails bool
	}{
		"createRuntime":               {&specs.Hooks{CreateRuntime: guestHook("exec sleep 1000")}, true},
		"createContainer":             {&specs.Hooks{CreateContainer: guestHook("exec sleep 1000")}, true},
		"startContainer":              {&specs.Hooks{StartContainer: containerHook("exec sleep 1000")}, true},
		"poststart":                   {&specs.Hooks{Poststart: guestHook("exec sleep 1000")}, true},
		"poststop":                    {&specs.Hooks{Poststop: guestHook("exec sleep 1000")}, false},
		"createRuntime that lingers":  {&specs.Hooks{CreateRuntime: guestHook(lingering)}, false},
		"startContainer that lingers": {&specs.Hooks{StartContainer: containerHook(lingering)}, true},
	} {
		for _, list := range [][]specs.Hook{tt.hooks.CreateRuntime, tt.hooks.CreateContainer, tt.hooks.StartContainer, tt.hooks.Poststart, tt.hooks.Poststop} {
			for i := range list {
				list[i].Timeout = new(1)
			}
		}
		spec := containerSpec("true")
		spec.Hooks = tt.hooks
		p := g.process(t, hostclient.ProcessConfig{Spec: spec})
		if err := p.Launch(deadline(t)); (err != nil) != tt.fails {
			t.Errorf("%s: Launch() = %v; want an error: %v", name, err, tt.fails)
		}
		if _, err := p.ForceDelete(deadline(t)); err != nil {
			t.Errorf("%s: ForceDelete() = %v; want no error", name, err)
		}
	}
	g.root(t, "killall sleep")
}

// testSlowHooks has a container take longer until its createContainer hooks run than these, and all that follows, may.
func testSlowHooks(t *testing.T, g *guest) {
	spec := containerSpec("true")
	spec.Hooks = &specs.Hooks{CreateRuntime: guestHook("sleep 23"), CreateContainer: guestHook("true")}
	spec.Hooks.CreateContainer[0].Timeout = new(1)
	if status, out := g.run(t, hostclient.ProcessConfig{Spec: spec}); !status.Success() {
		t.Errorf("the container ended with %v, output %q; want success", status, out)
	}
}

// testWaitingHooks has more containers at once than are made at a time, whose hooks wait for one more.
func testWaitingHooks(t *testing.T, g *guest) {
	const waiting, made = 20, vmtest.Rootfs + "/tmp/made"
	spec := containerSpec("true")
	spec.Hooks = &specs.Hooks{CreateContainer: guestHook("until test -e " + made + "; do sleep 0.2; done")}
	launched := make(chan error, waiting)
	for range waiting {
		p := g.process(t, hostclient.ProcessConfig{Spec: spec})
		go func() { launched <- p.Launch(deadline(t)) }()
	}
	const hooks = "until test -e " + made
	eventually(t, "all hooks to wait", func() bool { return len(g.processes(t, hooks)) == waiting })
	g.run(t, hostclient.ProcessConfig{Spec: containerSpec("true")})
	g.root(t, "touch "+made)
	for range waiting {
		if err := <-launched; err != nil {
			t.Errorf("Launch() = %v; want no error", err)
		}
	}
}
