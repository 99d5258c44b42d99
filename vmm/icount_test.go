//go:build linux

package vmm

import (
	"bufio"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCountInstructions has guests that say what 20 million instructions take by their clock, and then wait for the host, which takes its time.
func TestCountInstructions(t *testing.T) {
	const (
		exact = 40 * time.Millisecond
		most  = exact * 11 / 10 // with the interrupts that come meanwhile
	)
	for _, machine := range []Machine{MachineQ35, MachineMicroVM} {
		t.Run(machine.String(), func(t *testing.T) {
			cfg := testConfig(t, "time")
			cfg.Machine, cfg.Vsock, cfg.CountInstructions = machine, VsockUser, true
			vm := startVM(t, cfg)
			l, err := vm.Listen(1025)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(testTimeout))
			lines := bufio.NewReader(conn)
			var took time.Duration
			if _, err := fmt.Fscanln(lines, &took); err != nil {
				t.Fatal(err)
			}
			if took < exact*99/100 || took > most {
				t.Errorf("20 million instructions took %v of the guest's time; want %v to %v", took, exact, most)
			}
			time.Sleep(100 * time.Millisecond) // what the host takes: a clock that leaps is minutes ahead by then
			if _, err := conn.Write([]byte("!")); err != nil {
				t.Fatal(err)
			}
			if answer, err := lines.ReadString('\n'); answer != "answered\n" {
				t.Errorf("the guest says %q, %v; want the host's answer in time", answer, err)
			}
		})
	}
}

func TestCountInstructionsNeedsTCG(t *testing.T) {
	dir := t.TempDir()
	amd, kvm := filepath.Join(dir, "cpuinfo"), filepath.Join(dir, "kvm")
	writeFile(t, amd, "flags\t\t: fpu svm\n")
	writeFile(t, kvm, "")
	tests := []struct {
		name string
		want Accel
		env  string
		got  Accel // 0: refused
	}{
		{"no wish", AccelAuto, "", AccelTCG},
		{"TCG", AccelTCG, "", AccelTCG},
		{"TCG forced", AccelKVM, "tcg", AccelTCG},
		{"KVM", AccelKVM, "", 0},
		{"KVM forced", AccelTCG, "kvm", 0},
		{"KVM forced, no wish", AccelAuto, "kvm", 0},
	}
	for _, tt := range tests {
		c := Config{CountInstructions: true, Accel: tt.want}
		got, err := c.chooseAccel(host{"amd64", amd, kvm, tt.env})
		if got != tt.got || (tt.got == 0) != errors.Is(err, errCountKVM) {
			t.Errorf("%s: chooseAccel() = %v, %v; want %v", tt.name, got, err, tt.got)
		}
	}
}

func TestCountInstructionsArguments(t *testing.T) {
	c := Config{Kernel: "vmlinuz", Accel: AccelTCG, CountInstructions: true}.withDefaults()
	args := strings.Join(c.arguments(inProcess), " ")
	for _, want := range []string{"-icount shift=1,sleep=off ", "-accel tcg,thread=single ", "-smp 1,", " idle=poll"} {
		if !strings.Contains(args, want) {
			t.Errorf("arguments: %s\nwant %q in them", args, want)
		}
	}
}
