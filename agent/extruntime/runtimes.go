//go:build linux

package extruntime

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/cgroup"
	"github.com/bellhop-vm/bellhop/agent/failure"
	"github.com/bellhop-vm/bellhop/agent/pidfd"
)

// Config is what Runtimes need.
type Config struct {
	StateDir string        // bundles and the runtimes' state; made if missing. Short: paths of sockets beneath it are limited to 107 bytes
	Cgroups  *cgroup.Tree  // where containers live
	Waiter   *pidfd.Waiter // reaps keepers; outlives the Runtimes
	Logger   *slog.Logger  // required
	Exe      *os.File      // the agent's binary, sealed; nil: /proc/self/exe. Borrowed until New returns
}

// Runtimes makes containers with the runtimes of the guest.
type Runtimes struct {
	cfg    Config
	exe    string // path of the agent's binary in this process
	sealed *os.File
	serial atomic.Uint64 // names bundles
	follow sync.WaitGroup

	mu     sync.Mutex
	closed bool
	wards  map[*ward]struct{} // those that are followed
}

// lowestExe is above the numbers of a keeper's own files, so that the binary is still there when the keeper executes it.
const lowestExe = 16

// New makes Runtimes. Close must follow.
func New(cfg Config) (*Runtimes, error) {
	r := &Runtimes{cfg: cfg, exe: "/proc/self/exe", wards: make(map[*ward]struct{})}
	if cfg.Exe == nil {
		return r, nil
	}
	fd, err := unix.FcntlInt(cfg.Exe.Fd(), unix.F_DUPFD_CLOEXEC, lowestExe)
	if err != nil {
		return nil, fmt.Errorf("cannot keep the agent's binary: %w", os.NewSyscallError("fcntl", err))
	}
	r.exe, r.sealed = "/proc/self/fd/"+strconv.Itoa(fd), os.NewFile(uintptr(fd), "bellhopd")
	return r, nil
}

// Close stops following processes, which live on, with their keepers, and joins what followed them. Nothing is told of their ends any more.
func (r *Runtimes) Close() error {
	r.mu.Lock()
	r.closed = true
	for w := range r.wards {
		w.keeper.close()
	}
	r.mu.Unlock()
	r.follow.Wait()
	if r.sealed == nil {
		return nil
	}
	return r.sealed.Close()
}

// begin calls f, which follows w until its end or Close; after Close it does not.
func (r *Runtimes) begin(w *ward, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		w.keeper.close()
		return
	}
	r.wards[w] = struct{}{}
	r.follow.Go(func() {
		f()
		r.mu.Lock()
		delete(r.wards, w)
		r.mu.Unlock()
	})
}

// makeBundle makes a new directory for a container.
func (r *Runtimes) makeBundle() (string, error) {
	if err := os.MkdirAll(r.cfg.StateDir, 0o700); err != nil {
		return "", err
	}
	for {
		dir := filepath.Join(r.cfg.StateDir, strconv.FormatUint(r.serial.Add(1), 10))
		err := os.Mkdir(dir, 0o700)
		if !os.IsExist(err) { // an earlier life of the agent's may have left some
			return dir, err
		}
	}
}

// checkPath refuses a path that names no program.
func checkPath(path string) error {
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return failure.Field("runtime", "%.256q, must be an absolute path in the guest", path)
	}
	st, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return failure.Step(failure.New(errdefs.ErrNotFound, "not found"), "runtime %s", path)
	case err != nil:
		return failure.Step(failure.System(err), "runtime %s", path)
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		return failure.Step(failure.New(errdefs.ErrPermissionDenied, "not an executable file"), "runtime %s", path)
	}
	return nil
}
