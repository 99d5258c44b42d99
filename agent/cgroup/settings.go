//go:build linux

package cgroup

import (
	"errors"
	"os"
	"path"
	"strings"
)

// Settings are the files of a group that limit it, as they were.
type Settings struct {
	group *Group
	files map[string]string // also those that say what is in effect
}

// settable says whether a file is a setting: what is read from one can be written back.
func settable(name string) bool {
	switch strings.TrimPrefix(path.Ext(name), ".") {
	case "max", "high", "low", "min", "weight", "idle", "burst", "cpus", "mems", "partition", "group", "latency", "depth", "descendants":
		return true
	}
	return false
}

// Settings reads the group's settings.
func (g *Group) Settings() (*Settings, error) {
	entries, err := os.ReadDir(g.Path())
	if err != nil {
		return nil, err
	}
	s := &Settings{group: g, files: make(map[string]string)}
	for _, e := range entries {
		if !settable(e.Name()) && path.Ext(e.Name()) != ".effective" {
			continue
		}
		if b, err := os.ReadFile(g.file(e.Name())); err == nil { // what cannot be read was not written
			s.files[e.Name()] = string(b)
		}
	}
	return s, nil
}

// Get gives what a file said, without the newline; empty if the group has no such setting.
func (s *Settings) Get(name string) string { return strings.TrimSpace(s.files[name]) }

// Restore gives the group its settings back. Some depend on others, as a burst does on its quota: those that fail are tried again behind the others. A set of processors or memory nodes that was
// not limited is limited to what it then had: the kernel takes no empty set of a group with processes.
func (s *Settings) Restore() error {
	if s.restore() == nil {
		return nil
	}
	return s.restore()
}

func (s *Settings) restore() error {
	var errs []error
	for name, before := range s.files {
		if !settable(name) {
			continue
		}
		now, err := os.ReadFile(s.group.file(name))
		if err != nil || string(now) == before {
			continue
		}
		if before == "\n" {
			before = s.files[name+".effective"]
		}
		for _, line := range undoing(name, before, string(now)) {
			errs = append(errs, s.group.write(name, line))
		}
	}
	return errors.Join(errs...)
}

// undoing gives what to write to a file so that it says again what it said before, a line at a time. A device that had no line then, has its default.
func undoing(name, before, now string) []string {
	var lines []string
	for line := range strings.Lines(now) {
		device, _, _ := strings.Cut(line, " ")
		switch {
		case !strings.Contains(device, ":") || strings.Contains("\n"+before, "\n"+device+" "):
		case name == "io.max":
			lines = append(lines, device+" rbps=max wbps=max riops=max wiops=max")
		default: // io.weight, io.bfq.weight
			lines = append(lines, device+" default")
		}
	}
	for line := range strings.Lines(before) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}
