//go:build linux && cgo

package main

import (
	"os"
	"os/exec"
	"testing"
)

// agentModfile is the module file that the agent is built with, made by `make build`.
const agentModfile = "../../build/agent.mod"

// TestStandInForAssembler compares what the agent loads into the kernel as a device filter with what it would load if it were built with the assembler itself.
func TestStandInForAssembler(t *testing.T) {
	for _, path := range []string{agentModfile, "standins/ebpf/asm/asm.go", "testdata/devicefilter/main.go"} {
		if _, err := os.Stat(path); err != nil { // go test runs a test again when what it has looked at changes; what its children read does not count
			t.Fatalf("%v (run: make build)", err)
		}
	}
	want := goRun(t, "./testdata/devicefilter")
	if got := goRun(t, "-modfile="+agentModfile, "./testdata/devicefilter"); got != want {
		t.Errorf("instructions of the stand-in:\n%s\nwant those of the assembler:\n%s", got, want)
	}
}

func goRun(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"run"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}
