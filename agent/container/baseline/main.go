//go:build linux

// Command baseline is libcontainer alone, for the benchmark: it takes containers of the spec on its stdin from creation to deletion, COUNT times one after the other, and prints the median
// of the times in nanoseconds. It runs from a sealed memfd, as the agent does: otherwise libcontainer copies the binary for each container.
//
//	baseline COUNT <config.json
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	_ "github.com/opencontainers/cgroups/devices" // device rules fail without it
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // its constructor joins and makes namespaces before the Go runtime starts
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// init keeps the main thread out of containers' mount namespaces, to which libcontainer sends threads.
func init() { runtime.LockOSThread() }

const sealedEnv = "BASELINE_IS_SEALED"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
	logrus.SetLevel(logrus.ErrorLevel)
	failed := make(chan error)
	go func() { failed <- run() }()
	if err := <-failed; err != nil {
		fmt.Fprintln(os.Stderr, "baseline:", err)
		os.Exit(1)
	}
}

func run() error {
	if os.Getenv(sealedEnv) == "" {
		return seal()
	}
	if len(os.Args) != 2 {
		return errors.New("usage: baseline COUNT <config.json")
	}
	count, err := strconv.Atoi(os.Args[1])
	if err != nil || count < 1 {
		return fmt.Errorf("%q is not a count", os.Args[1])
	}
	spec := new(specs.Spec)
	if err := json.NewDecoder(os.Stdin).Decode(spec); err != nil {
		return err
	}
	times := make([]time.Duration, count)
	for i := range times {
		start := time.Now()
		if err := life(fmt.Sprint("baseline", i), spec); err != nil {
			return err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	_, err = fmt.Println(times[count/2].Nanoseconds())
	return err
}

// seal executes this program again, from memory that nobody can write to.
func seal() error {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("baseline", unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	if _, err := os.NewFile(uintptr(fd), "baseline").Write(exe); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return err
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), os.Args, append(os.Environ(), sealedEnv+"=1"))
}

// life takes one container from creation to deletion.
func life(id string, spec *specs.Spec) error {
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: id, Spec: spec})
	if err != nil {
		return err
	}
	cfg.Cgroups.Name, cfg.Cgroups.Parent, cfg.Cgroups.Path = "", "", "/"+id
	c, err := libcontainer.Create("/run/baseline", id, cfg)
	if err != nil {
		return err
	}
	p := process(spec.Process)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p.Stdout, p.Stderr = w, w
	err = c.Run(p)
	w.Close()
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	r.Close()
	if _, err := p.Wait(); err != nil {
		return err
	}
	return c.Destroy()
}

func process(s *specs.Process) *libcontainer.Process {
	p := &libcontainer.Process{Init: true, Args: s.Args, Env: s.Env, Cwd: s.Cwd, NoNewPrivileges: &s.NoNewPrivileges, LogLevel: "2"}
	if c := s.Capabilities; c != nil {
		p.Capabilities = &configs.Capabilities{Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient}
	}
	return p
}
