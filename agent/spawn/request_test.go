//go:build linux

package spawn

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/bellhop-vm/bellhop/agent/nursery"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestEnvironment(t *testing.T) {
	for _, tt := range []struct {
		in, want []string
		hasHome  bool
	}{
		{nil, []string{defaultPath}, false},
		{[]string{"PATH=/x", "HOME=/h"}, []string{"PATH=/x", "HOME=/h"}, true},
		{[]string{"HOME=", "PATH="}, []string{"PATH="}, false},
		{[]string{"A=1", "PATH=/x", "A=2", "HOME=/a", "HOME=/b"}, []string{"PATH=/x", "A=2", "HOME=/b"}, true},
	} {
		if got, hasHome := environment(tt.in); !slices.Equal(got, tt.want) || hasHome != tt.hasHome {
			t.Errorf("environment(%q) = %q, %v; want %q, %v", tt.in, got, hasHome, tt.want, tt.hasHome)
		}
	}
}

func TestRefusals(t *testing.T) {
	valid := func() *pb.Process { return &pb.Process{Args: []string{"true"}, Cwd: "/"} }
	if _, err := newRequest(valid(), nil); err != nil {
		t.Fatalf("newRequest(valid) = %v", err)
	}
	score := int32(1001)
	for name, set := range map[string]func(*pb.Process){
		"no args":          func(p *pb.Process) { p.Args = nil },
		"empty program":    func(p *pb.Process) { p.Args = []string{""} },
		"NUL":              func(p *pb.Process) { p.Args = []string{"a\x00"} },
		"NUL in cwd":       func(p *pb.Process) { p.Cwd = "/a\x00" },
		"relative cwd":     func(p *pb.Process) { p.Cwd = "x" },
		"env":              func(p *pb.Process) { p.Env = []string{"X"} },
		"huge env":         func(p *pb.Process) { p.Env = []string{"X=" + strings.Repeat("x", 600<<10)} },
		"rlimit":           func(p *pb.Process) { p.Rlimits = []*pb.Rlimit{{Type: "RLIMIT_X"}} },
		"rlimit twice":     func(p *pb.Process) { p.Rlimits = []*pb.Rlimit{{Type: "RLIMIT_AS"}, {Type: "RLIMIT_AS"}} },
		"soft above hard":  func(p *pb.Process) { p.Rlimits = []*pb.Rlimit{{Type: "RLIMIT_AS", Soft: 1}} },
		"capability":       func(p *pb.Process) { p.Capabilities = &pb.Capabilities{Ambient: []string{"CAP_X"}} },
		"scheduler":        func(p *pb.Process) { p.Scheduler = &pb.Scheduler{Policy: "SCHED_X"} },
		"io class":         func(p *pb.Process) { p.IoPriority = &pb.IOPriority{Class: "X"} },
		"io priority":      func(p *pb.Process) { p.IoPriority = &pb.IOPriority{Class: "IOPRIO_CLASS_BE", Priority: 8} },
		"affinity":         func(p *pb.Process) { p.CpuAffinity = &pb.CPUAffinity{Final: "x"} },
		"huge affinity":    func(p *pb.Process) { p.CpuAffinity = &pb.CPUAffinity{Final: "0-4294967295"} },
		"oom score":        func(p *pb.Process) { p.OomScoreAdj = &score },
		"inherit nothing":  func(p *pb.Process) { p.InheritSeccomp = true },
		"username and uid": func(p *pb.Process) { p.User = &pb.User{Username: "root", Uid: 1} },
	} {
		p := valid()
		set(p)
		if _, err := newRequest(p, nil); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: newRequest() = %v; want invalid argument", name, err)
		}
	}
	if _, err := newRequest(nil, nil); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("newRequest(nil) = %v; want invalid argument", err)
	}
}

func TestUnknownUser(t *testing.T) {
	task, err := New(Config{ID: "x", Process: &pb.Process{Args: []string{"true"}, User: &pb.User{Username: "no-such-user"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Prepare(); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("Prepare() = %v; want invalid argument", err)
	}
	if _, err := task.Delete(t.Context(), true); err != nil {
		t.Errorf("Delete() of what was not prepared = %v; want no error", err)
	}
}

func TestConversions(t *testing.T) {
	p := &pb.Process{
		Args: []string{"true"}, Cwd: "/", NoNewPrivileges: true,
		Capabilities: &pb.Capabilities{Bounding: []string{"CAP_CHOWN", "CAP_KILL"}, Ambient: []string{"CAP_CHECKPOINT_RESTORE"}},
		Rlimits:      []*pb.Rlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 6}},
		IoPriority:   &pb.IOPriority{Class: "IOPRIO_CLASS_BE", Priority: 3},
		CpuAffinity:  &pb.CPUAffinity{Initial: "0", Final: "0,2"},
		Scheduler:    &pb.Scheduler{Policy: "SCHED_BATCH", Nice: 4},
	}
	req, err := newRequest(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (nursery.Capabilities{Bounding: 1<<0 | 1<<5, Ambient: 1 << 40}); *req.Capabilities != want {
		t.Errorf("capabilities = %+v; want %+v", *req.Capabilities, want)
	}
	if req.IOPriority != 2<<13|3 || !req.NoNewPrivs || req.Scheduler.Policy != 3 || req.Scheduler.Nice != 4 {
		t.Errorf("request = %+v", req)
	}
	if !req.Affinity.IsSet(0) || !req.Affinity.IsSet(2) || req.Affinity.Count() != 2 {
		t.Errorf("affinity = %v; want CPUs 0 and 2", req.Affinity)
	}
	if len(req.Rlimits) != 1 || req.Rlimits[0].Soft != 5 {
		t.Errorf("rlimits = %v; want one", req.Rlimits)
	}
}

func TestParseStat(t *testing.T) {
	for in, want := range map[string]stat{
		"12 (sh) S 1 12 13 0 -1":             {"sh", 1, 13},
		"12 (a) (b) c) R 7 12 9 0":           {"a) (b) c", 7, 9},
		"12 (\x00\xff\n) R 7 12 9 0 0 0 0 0": {"\x00\xff\n", 7, 9},
	} {
		if got, err := parseStat([]byte(in)); err != nil || got != want {
			t.Errorf("parseStat(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "12", "12 (sh", "12 sh) R", ")(", "12 (sh) S 1", "12 (sh) S x 1 1 1", "12 (sh) S 1 1 x 1"} {
		if got, err := parseStat([]byte(in)); err == nil {
			t.Errorf("parseStat(%q) = %+v; want an error", in, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (sh) S 1 12 13 0 -1"))
	f.Add([]byte("12 (a) (b)) R 7 12 9"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseStat(b) })
}

func TestDescends(t *testing.T) {
	stats := map[int]stat{2: {parent: 1}, 3: {parent: 2}, 4: {parent: 9}, 5: {parent: 6}, 6: {parent: 5}}
	for pid, want := range map[int]bool{2: true, 3: true, 4: false, 5: false, 7: false} {
		if got := descends(pid, 1, stats); got != want {
			t.Errorf("descends(%d, 1) = %v; want %v", pid, got, want)
		}
	}
}
