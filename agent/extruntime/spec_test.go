//go:build linux

package extruntime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/container"
	"github.com/bellhop-vm/bellhop/agent/rootfs"
	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// TestBundleSpec holds what the runtime is told beside what the client said, and that the client's spec stays as it is.
func TestBundleSpec(t *testing.T) {
	spec := &specs.Spec{
		Version: "1.3.0", Hostname: "web", Root: &specs.Root{Path: "/r"},
		Process: &specs.Process{
			Args: []string{"sh"}, User: specs.User{Username: "web", UID: 1000},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1, Hard: 2}},
		},
		Linux: &specs.Linux{CgroupsPath: "web", MaskedPaths: []string{"/proc/keys"}},
	}
	locked := specs.POSIXRlimit{Type: "RLIMIT_MEMLOCK", Soft: 8 << 20, Hard: 8 << 20}
	before, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	got := bundleSpec(&container.Request{Spec: spec, Size: &pb.Size{Columns: 80, Rows: 24}}, "/bellhop/web")
	want := &specs.Spec{
		Version: "1.0.2", Hostname: "web", Root: &specs.Root{Path: "/r"},
		Process: &specs.Process{
			Args: []string{"sh"}, User: specs.User{UID: 1000}, ConsoleSize: &specs.Box{Width: 80, Height: 24},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1, Hard: 2}, {Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 524288}, locked},
		},
		Linux: &specs.Linux{CgroupsPath: "/bellhop/web", MaskedPaths: []string{"/proc/keys"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("bundleSpec() = %+v; want %+v", got, want)
	}
	after, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != string(before) {
		t.Errorf("the request's spec became %s; want %s", after, before)
	}
}

func TestWithDefaults(t *testing.T) {
	own := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 6}, {Type: "RLIMIT_MEMLOCK", Soft: 7, Hard: 8}}
	if got := withDefaults(own); !reflect.DeepEqual(got, own) {
		t.Errorf("withDefaults(%v) = %v; want the same", own, got)
	}
}

// testRoot is a root with one user.
func testRoot(t *testing.T) func() (*rootfs.Dir, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"etc/passwd": "web:x:1000:1001:web:/home/web:/bin/sh\n", "etc/group": "staff:x:50:web\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return func() (*rootfs.Dir, error) { return rootfs.Open(dir) }
}

// TestExecSpec converts an exec's process; what it leaves open comes from the container's.
func TestExecSpec(t *testing.T) {
	score, chosen := 100, int32(-5)
	umask := uint32(0o77)
	of := &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}, ApparmorProfile: "profile", SelinuxLabel: "label", OOMScoreAdj: &score, Cwd: "/elsewhere",
	}
	nofile := specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 524288}
	locked := specs.POSIXRlimit{Type: "RLIMIT_MEMLOCK", Soft: 8 << 20, Hard: 8 << 20}
	own := -5
	for _, tt := range []struct {
		name string
		in   *pb.Process
		want *specs.Process
	}{
		{"least", &pb.Process{Args: []string{"id"}, Env: []string{"HOME=/h"}}, &specs.Process{
			Args: []string{"id"}, Env: []string{"HOME=/h", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cwd: "/",
			Capabilities: of.Capabilities, ApparmorProfile: "profile", SelinuxLabel: "label", OOMScoreAdj: &score, Rlimits: []specs.POSIXRlimit{nofile, locked},
		}},
		{"most", &pb.Process{
			Terminal: true, User: &pb.User{Username: "web", AdditionalGids: []uint32{7}, Umask: &umask}, Args: []string{"id", "-u"}, Env: []string{"PATH=/p"}, Cwd: "/tmp",
			Capabilities: &pb.Capabilities{Effective: []string{"CAP_CHOWN"}}, Rlimits: []*pb.Rlimit{{Type: "RLIMIT_NOFILE", Soft: 3, Hard: 4}},
			NoNewPrivileges: true, ApparmorProfile: "mine", SelinuxLabel: "my", OomScoreAdj: &chosen,
			Scheduler:  &pb.Scheduler{Policy: "SCHED_BATCH", Nice: 3, Flags: []string{"SCHED_FLAG_RESET_ON_FORK"}},
			IoPriority: &pb.IOPriority{Class: "IOPRIO_CLASS_IDLE", Priority: 2}, CpuAffinity: &pb.CPUAffinity{Initial: "0", Final: "1"},
		}, &specs.Process{
			Terminal: true, User: specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{50, 7}, Umask: &umask}, Args: []string{"id", "-u"},
			Env: []string{"PATH=/p", "HOME=/home/web"}, Cwd: "/tmp",
			Capabilities: &specs.LinuxCapabilities{Effective: []string{"CAP_CHOWN"}}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 3, Hard: 4}, locked},
			NoNewPrivileges: true, ApparmorProfile: "mine", SelinuxLabel: "my", OOMScoreAdj: &own,
			Scheduler:       &specs.Scheduler{Policy: "SCHED_BATCH", Nice: 3, Flags: []specs.LinuxSchedulerFlag{"SCHED_FLAG_RESET_ON_FORK"}},
			IOPriority:      &specs.LinuxIOPriority{Class: "IOPRIO_CLASS_IDLE", Priority: 2},
			ExecCPUAffinity: &specs.CPUAffinity{Initial: "0", Final: "1"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := execSpec(tt.in, of, testRoot(t))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("execSpec() = %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestExecSpecRefuses(t *testing.T) {
	of := new(specs.Process)
	for name, in := range map[string]*pb.Process{
		"nothing":        nil,
		"no program":     {},
		"relative cwd":   {Args: []string{"x"}, Cwd: "tmp"},
		"NUL":            {Args: []string{"x\x00"}},
		"no such user":   {Args: []string{"x"}, User: &pb.User{Username: "stranger"}},
		"name and uid":   {Args: []string{"x"}, User: &pb.User{Username: "web", Uid: 1}},
		"no such limit":  {Args: []string{"x"}, Rlimits: []*pb.Rlimit{{Type: "RLIMIT_X"}}},
		"a limit twice":  {Args: []string{"x"}, Rlimits: []*pb.Rlimit{{Type: "RLIMIT_CPU"}, {Type: "RLIMIT_CPU"}}},
		"above the hard": {Args: []string{"x"}, Rlimits: []*pb.Rlimit{{Type: "RLIMIT_CPU", Soft: 2, Hard: 1}}},
		"OOM score":      {Args: []string{"x"}, OomScoreAdj: ptr(int32(1001))},
	} {
		if got, err := execSpec(in, of, testRoot(t)); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: execSpec() = %+v, %v; want errdefs.ErrInvalidArgument", name, got, err)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestCheckPath(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		"/bin/sh": nil, "runc": errdefs.ErrInvalidArgument, "../bin/sh": errdefs.ErrInvalidArgument, "/nonexistent": errdefs.ErrNotFound,
		dir: errdefs.ErrPermissionDenied, plain: errdefs.ErrPermissionDenied, plain + "/x": errdefs.ErrInvalidArgument, "/bin/sh\x00": errdefs.ErrInvalidArgument,
	} {
		if err := checkPath(path); !errors.Is(err, want) {
			t.Errorf("checkPath(%q) = %v; want %v", path, err, want)
		}
	}
}
