package hostclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/protocol"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

func TestParseSignal(t *testing.T) {
	tests := []struct {
		in   string
		want Signal // 0: an error
	}{
		{"SIGKILL", SIGKILL},
		{"KILL", SIGKILL},
		{"kill", SIGKILL},
		{"sigterm", SIGTERM},
		{"9", SIGKILL},
		{"1", SIGHUP},
		{"64", 64},
		{"34", 34},
		{"0", 0},
		{"65", 0},
		{"-9", 0},
		{"", 0},
		{"SIG", 0},
		{"NOPE", 0},
		{"99999999999999999999", 0},
	}
	for _, tt := range tests {
		got, err := ParseSignal(tt.in)
		if got != tt.want || (err == nil) != (tt.want != 0) || err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("ParseSignal(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
	for s := Signal(1); s <= SIGSYS; s++ {
		if got, err := ParseSignal(s.String()); got != s || err != nil {
			t.Errorf("ParseSignal(%q) = %v, %v; want %d", s, got, err, s)
		}
	}
	for s, want := range map[Signal]string{SIGKILL: "SIGKILL", SIGSYS: "SIGSYS", 34: "signal 34", 0: "signal 0"} {
		if got := s.String(); got != want {
			t.Errorf("Signal(%d).String() = %q; want %q", s, got, want)
		}
	}
}

func TestExitStatus(t *testing.T) {
	tests := []struct {
		in   *pb.Exited
		code int
		text string
	}{
		{&pb.Exited{}, 0, "exit status 0"},
		{&pb.Exited{Code: 42}, 42, "exit status 42"},
		{&pb.Exited{Code: -1}, 255, "exit status 255"},
		{&pb.Exited{Signal: 9}, 137, "signal: SIGKILL"},
		{&pb.Exited{Signal: 9, OomKilled: true}, 137, "signal: SIGKILL (out of memory)"},
		{&pb.Exited{Signal: 11, Core: true, Code: 7}, 139, "signal: SIGSEGV (core dumped)"},
		{&pb.Exited{Signal: math.MaxUint32}, 192, "signal: signal 64"},
	}
	for _, tt := range tests {
		s := exitStatus(tt.in)
		if s.ExitCode() != tt.code || s.String() != tt.text || s.Success() != (tt.code == 0) {
			t.Errorf("exitStatus(%v): code %d, %q; want %d, %q", tt.in, s.ExitCode(), s, tt.code, tt.text)
		}
	}
	if s := exitStatus(nil); s.ExitCode() != 0 {
		t.Errorf("exitStatus(nil) = %v; want the zero status", s)
	}
}

func TestGuestTime(t *testing.T) {
	tests := []struct {
		in   uint64
		want time.Time
	}{
		{0, time.Time{}}, {1, time.Unix(0, 1)}, {math.MaxInt64, time.Unix(0, math.MaxInt64)}, {math.MaxUint64, time.Time{}},
	}
	for _, tt := range tests {
		if got := guestTime(tt.in); !got.Equal(tt.want) {
			t.Errorf("guestTime(%d) = %v; want %v", tt.in, got, tt.want)
		}
	}
}

func TestShellCode(t *testing.T) {
	status := func(code pb.Code, errno int32) error {
		return fmt.Errorf("cannot run: %w", &protocol.StatusError{PB: &pb.Error{Code: code, LinuxErrno: errno}})
	}
	tests := []struct {
		err  error
		want int
	}{
		{nil, 0},
		{&ExitError{ExitStatus: ExitStatus{Code: 3}}, 3},
		{fmt.Errorf("x: %w", &ExitError{ExitStatus: ExitStatus{Signal: SIGTERM}}), 143},
		{status(pb.Code_CODE_NOT_FOUND, 2), 127},
		{status(pb.Code_CODE_PERMISSION_DENIED, 13), 126},
		{status(pb.Code_CODE_NOT_FOUND, 0), 125}, // no such container
		{status(pb.Code_CODE_INTERNAL, 5), 125},
		{io.ErrUnexpectedEOF, 125},
	}
	for _, tt := range tests {
		if got := ShellCode(tt.err); got != tt.want {
			t.Errorf("ShellCode(%v) = %d; want %d", tt.err, got, tt.want)
		}
	}
}

func TestMilliseconds(t *testing.T) {
	tests := []struct {
		in   time.Duration
		want uint32
	}{
		{0, 0}, {1, 1}, {time.Millisecond, 1}, {time.Millisecond + 1, 2}, {time.Second, 1000}, {math.MaxInt64 - time.Second, math.MaxUint32 - 1},
	}
	for _, tt := range tests {
		if got := milliseconds(tt.in); got != tt.want {
			t.Errorf("milliseconds(%v) = %d; want %d", tt.in, got, tt.want)
		}
	}
	if got := drainMilliseconds(-1); got != protocol.NoDrainTimeout {
		t.Errorf("drainMilliseconds(-1) = %d; want no bound", got)
	}
}

func TestProcessMessage(t *testing.T) {
	umask, adj := uint32(0o27), -500
	in := &specs.Process{
		Terminal: true, Args: []string{"a", "b"}, Env: []string{"K=V"}, Cwd: "/w", NoNewPrivileges: true,
		User:            specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{3}, Umask: &umask, Username: "u"},
		Capabilities:    &specs.LinuxCapabilities{Bounding: []string{"b"}, Effective: []string{"e"}, Inheritable: []string{"i"}, Permitted: []string{"p"}, Ambient: []string{"a"}},
		Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 2, Soft: 1}},
		ApparmorProfile: "aa", SelinuxLabel: "se", OOMScoreAdj: &adj,
		Scheduler:       &specs.Scheduler{Policy: specs.SchedOther, Nice: 1, Priority: 2, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}, Runtime: 3, Deadline: 4, Period: 5},
		IOPriority:      &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 7},
		ExecCPUAffinity: &specs.CPUAffinity{Initial: "0", Final: "1"},
	}
	adj32 := int32(adj)
	want := &pb.Process{
		Terminal: true, Args: []string{"a", "b"}, Env: []string{"K=V"}, Cwd: "/w", NoNewPrivileges: true,
		User:            &pb.User{Uid: 1, Gid: 2, AdditionalGids: []uint32{3}, Umask: &umask, Username: "u"},
		Capabilities:    &pb.Capabilities{Bounding: []string{"b"}, Effective: []string{"e"}, Inheritable: []string{"i"}, Permitted: []string{"p"}, Ambient: []string{"a"}},
		Rlimits:         []*pb.Rlimit{{Type: "RLIMIT_NOFILE", Hard: 2, Soft: 1}},
		ApparmorProfile: "aa", SelinuxLabel: "se", OomScoreAdj: &adj32,
		Scheduler:   &pb.Scheduler{Policy: "SCHED_OTHER", Nice: 1, Priority: 2, Flags: []string{"SCHED_FLAG_RESET_ON_FORK"}, Runtime: 3, Deadline: 4, Period: 5},
		IoPriority:  &pb.IOPriority{Class: "IOPRIO_CLASS_BE", Priority: 7},
		CpuAffinity: &pb.CPUAffinity{Initial: "0", Final: "1"},
	}
	got, err := processMessage(in)
	if err != nil || !got.EqualVT(want) {
		t.Errorf("processMessage(…) = %v, %v; want %v", got, err, want)
	}
	large := math.MaxInt32 + 1
	for _, bad := range []*specs.Process{{CommandLine: "x"}, {OOMScoreAdj: &large}, {IOPriority: &specs.LinuxIOPriority{Priority: -large - 1}}} {
		if _, err := processMessage(bad); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("processMessage(%+v) = %v; want errdefs.ErrInvalidArgument", bad, err)
		}
	}
	for _, box := range []specs.Box{{Width: 65536}, {Height: 65536}, {Width: math.MaxUint}} {
		if _, err := consoleSize(&box); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("consoleSize(%v) = %v; want errdefs.ErrInvalidArgument", box, err)
		}
	}
}

func TestDefaultSpec(t *testing.T) {
	a, b := DefaultSpec("/rootfs", "echo", "hi"), DefaultSpec("/rootfs", "echo", "hi")
	a.Process.Capabilities.Effective[0] = "changed"
	a.Mounts[0].Options[0] = "changed"
	if b.Process.Capabilities.Effective[0] == "changed" || b.Process.Capabilities.Bounding[0] == "changed" || b.Mounts[0].Options[0] == "changed" {
		t.Error("two specs share memory; want each the caller's own")
	}
	encoded, err := json.Marshal(b)
	if err != nil || !bytes.Contains(encoded, []byte(`"ociVersion":"1.3.0"`)) {
		t.Errorf("json.Marshal(DefaultSpec(…)) = %s, %v; want OCI version 1.3.0", encoded, err)
	}
	network := func(s *specs.Spec) bool {
		return slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace })
	}
	if !network(b) {
		t.Error("DefaultSpec has no network namespace; want one")
	}
	ShareNetwork(b)
	if network(b) || len(b.Linux.Namespaces) != 5 {
		t.Errorf("namespaces after ShareNetwork: %v; want all but network", b.Linux.Namespaces)
	}
	ShareNetwork(&specs.Spec{})
}

func TestTail(t *testing.T) {
	var w tail
	var all []byte
	for i := range 3000 {
		line := fmt.Appendf(nil, "line %d of the error\n", i)
		all = append(all, line...)
		if n, err := w.Write(line); n != len(line) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", line, n, err)
		}
		if len(w.buf) > 2*tailSize {
			t.Fatalf("%d bytes are kept; want at most %d", len(w.buf), 2*tailSize)
		}
		if want := all[max(0, len(all)-tailSize):]; !bytes.Equal(w.bytes(), want) {
			t.Fatalf("after %d bytes: not the last %d", len(all), len(want))
		}
	}
	big := bytes.Repeat([]byte{'x'}, 5*tailSize)
	if n, err := w.Write(big); n != len(big) || err != nil || len(w.bytes()) != tailSize {
		t.Errorf("Write of %d bytes = %d, %v, kept %d; want %d", len(big), n, err, len(w.bytes()), tailSize)
	}
}

func TestOneAtATime(t *testing.T) {
	var a, b bytes.Buffer
	if out, err := oneAtATime(&a, &b); out != &a || err != &b {
		t.Error("two writers were changed; want them as they are")
	}
	out, err := oneAtATime(&a, &a)
	if out != err || out == io.Writer(&a) {
		t.Error("one writer for both is not locked")
	}
	type uncomparable struct {
		io.Writer
		_ []byte
	}
	if out, _ := oneAtATime(uncomparable{}, uncomparable{}); out == nil {
		t.Error("uncomparable writers are lost")
	}
}
