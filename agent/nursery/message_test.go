//go:build linux

package nursery

import (
	"embed"
	"encoding/hex"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/seccomp"
)

//go:embed testdata
var golden embed.FS // in the binary, since it also runs in a guest

var update = flag.Bool("update", false, "write the golden files anew")

// full is a request with all that goes into a message, but for files.
func full() *Request {
	cpus := &unix.CPUSet{}
	cpus.Set(3)
	return &Request{
		Size: Size{Columns: 80, Rows: 24}, Args: []string{"prog", "", "a b"}, Env: []string{"PATH=/bin:/usr/bin/", "X="}, Cwd: "/work dir",
		UID: 1, GID: 2, Groups: []uint32{3, 4, 5}, Umask: ptr(uint32(0o027)),
		Capabilities: &Capabilities{Bounding: 1, Effective: 2, Inheritable: 3, Permitted: 4, Ambient: 5}, NoNewPrivs: true,
		Seccomp: seccomp.Filter{Flags: 2, Program: []byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f}},
		Rlimits: []Rlimit{{unix.RLIMIT_NOFILE, 10, 20}, {unix.RLIMIT_CORE, 0, unix.RLIM_INFINITY}}, OOMScoreAdj: -500,
		Scheduler: &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: 1, Priority: 7}, IOPriority: 2<<13 | 4, Affinity: cpus, Personality: ptr(uint32(8)),
		MemoryPolicy: &MemoryPolicy{Mode: 2, Nodes: cpus}, AppArmor: "profile", SELinux: "label", Keyring: "_ses.x",
	}
}

func mustEncode(t testing.TB, r *Request) *message {
	t.Helper()
	m, err := encode(r, unix.CLONE_NEWNS|unix.CLONE_NEWUSER)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The layout is known to C only by request.h; a change of either side shows here.
func TestGoldenMessages(t *testing.T) {
	for name, r := range map[string]*Request{"small": {Args: []string{"/bin/true"}}, "full": full()} {
		got := hex.Dump(mustEncode(t, r).bytes())
		path := "testdata/" + name + ".hex"
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := golden.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("message %s differs from %s; if that is meant, run with -update", name, path)
		}
	}
}

// What encode makes, the nursery accepts.
func TestEncodeVerifies(t *testing.T) {
	for name, r := range map[string]*Request{
		"small": {Args: []string{"/bin/true"}},
		"full":  full(),
		"long":  {Args: []string{"/bin/true", strings.Repeat("x", 100_000)}},
		"files": {Args: []string{"true"}, Init: os.Stdin, Cgroup: os.Stdin, Stdio: [3]*os.File{nil, os.Stdout, nil}},
		"many":  {Args: make([]string, 5000), Env: make([]string, 3000)},
	} {
		m := mustEncode(t, r)
		if err := m.verify(); err != nil {
			t.Errorf("%s: request_check = %v; want nil", name, err)
		}
		if m.isLong() != (m.end > 32<<10) || (m.isLong() && len(m.inline()) != headerSize) {
			t.Errorf("%s: %d bytes, long %v, inline %d", name, m.end, m.isLong(), len(m.inline()))
		}
	}
}

func TestTooLong(t *testing.T) {
	if _, err := encode(&Request{Args: []string{strings.Repeat("x", 17<<20)}}, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("encode(17 MiB) = %v; want ErrInvalid", err)
	}
}

// A message that has been damaged is refused or harmless; the check itself stays within its bounds whatever it reads.
func TestDamagedMessages(t *testing.T) {
	original := mustEncode(t, full())
	rnd := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 20_000 {
		m := &message{words: append([]uint64(nil), original.words...), end: original.end}
		b := m.bytes()
		for range 1 + rnd.IntN(4) {
			b[rnd.IntN(headerSize)] = byte(rnd.Uint32())
		}
		if m.verify() != nil {
			refused++
		}
	}
	if refused < 10_000 {
		t.Errorf("%d of 20,000 damaged messages are refused; want most", refused)
	}
}

func FuzzRequestCheck(f *testing.F) {
	for _, r := range []*Request{{Args: []string{"/bin/true"}}, full()} {
		f.Add(mustEncode(f, r).bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &message{words: make([]uint64, (len(b)+7)/8), end: len(b)}
		copy(m.bytes(), b)
		_ = m.verify() // must not read or write outside
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseReply(b)
		if err != nil {
			return
		}
		if r.kind == replyFailed {
			e := r.err(full())
			if e.Error() == "" || e.Step == "" || e.Errno == 0 {
				t.Errorf("reply %+v makes the error %+v", r, e)
			}
		}
	})
}

func TestParseReply(t *testing.T) {
	word := func(n ...byte) []byte {
		b := make([]byte, 0, 16)
		for _, v := range n {
			b = append(b, v, 0, 0, 0)
		}
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		want reply
		ok   bool
	}{
		{"master", word(1, 0, 0, 0), reply{kind: replyMaster}, true},
		{"failed", word(2, 13, 28, 1), reply{kind: replyFailed, value: 13, step: 28, item: 1}, true},
		{"failed without errno", word(2, 0, 28, 1), reply{}, false},
		{"errno too high", []byte{2, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, reply{}, false},
		{"unknown kind", word(9, 1, 1, 1), reply{}, false},
		{"short", word(1, 0, 0), reply{}, false},
		{"long", word(1, 0, 0, 0, 0), reply{}, false},
		{"empty", nil, reply{}, false},
	} {
		got, err := parseReply(c.in)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: parseReply(%x) = %+v, %v; want %+v, ok %v", c.name, c.in, got, err, c.want, c.ok)
		}
	}
}

// stepNames in Go and enum step in C count alike; the last one shows it.
func TestStepNames(t *testing.T) {
	for n, want := range map[uint32]string{0: "unknown step", lastOwnStep: StepFork, stepRlimit: StepRlimit, stepCwd: StepCwd, stepOutside: StepCwdOutside, stepExec: StepExec, stepExec + 1: "unknown step", 1 << 31: "unknown step"} {
		if got := stepName(n); got != want {
			t.Errorf("stepName(%d) = %q; want %q", n, got, want)
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		want []string
	}{
		{"sh", []string{"PATH=/bin:/usr/bin"}, []string{"/bin/sh", "/usr/bin/sh"}},
		{"sh", nil, []string{"/bin/sh", "/usr/bin/sh"}},
		{"sh", []string{"PATH=/a", "PATH=/b"}, []string{"/b/sh"}},
		{"sh", []string{"PATH=/a/::b:/"}, []string{"/a/sh", "/sh"}},
		{"sh", []string{"PATH="}, []string{""}},
		{"/bin/sh", nil, []string{"/bin/sh"}},
		{"./sh", nil, []string{"./sh"}},
		{"", []string{"PATH=/bin"}, []string{""}},
	} {
		if got := candidates(&Request{Args: []string{c.name}, Env: c.env}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("candidates(%q, %q) = %q; want %q", c.name, c.env, got, c.want)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	r := full()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encode(r, 0); err != nil {
			b.Fatal(err)
		}
	}
}
