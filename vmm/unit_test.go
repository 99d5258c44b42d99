//go:build linux

package vmm

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestChooseAccel(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, content)
		return path
	}
	amd := file("amd", "processor : 0\nflags\t\t: fpu vme svm sse\n")
	intel := file("intel", "flags : vmx\n")
	plain := file("plain", "flags\t\t: fpu vme svmx novmx\n")
	kvm, none := file("kvm", ""), filepath.Join(dir, "none")
	tests := []struct {
		name string
		host host
		want Accel
		got  Accel // 0: an error
	}{
		{"AMD", host{"amd64", amd, kvm, ""}, AccelAuto, AccelKVM},
		{"Intel", host{"amd64", intel, kvm, ""}, AccelAuto, AccelKVM},
		{"no flag, but /dev/kvm", host{"amd64", plain, kvm, ""}, AccelAuto, AccelTCG},
		{"flag, but no /dev/kvm", host{"amd64", amd, none, ""}, AccelAuto, AccelTCG},
		{"no cpuinfo", host{"amd64", none, kvm, ""}, AccelAuto, AccelTCG},
		{"arm64 host", host{"arm64", amd, kvm, ""}, AccelAuto, AccelTCG},
		{"TCG asked for", host{"amd64", amd, kvm, ""}, AccelTCG, AccelTCG},
		{"KVM asked for", host{"amd64", plain, kvm, ""}, AccelKVM, AccelKVM},
		{"KVM asked for in vain", host{"amd64", amd, none, ""}, AccelKVM, 0},
		{"TCG forced", host{"amd64", amd, kvm, "tcg"}, AccelKVM, AccelTCG},
		{"KVM forced", host{"amd64", plain, kvm, "kvm"}, AccelTCG, AccelKVM},
		{"KVM forced in vain", host{"amd64", amd, none, "kvm"}, AccelTCG, 0},
		{"nonsense forced", host{"amd64", amd, kvm, "hax"}, AccelAuto, 0},
		{"unknown", host{"amd64", amd, kvm, ""}, Accel(9), 0},
	}
	for _, tt := range tests {
		got, err := tt.host.choose(tt.want)
		if (err != nil) != (tt.got == 0) || err == nil && got != tt.got {
			t.Errorf("%s: choose(%v) = %v, %v; want %v", tt.name, tt.want, got, err, tt.got)
		}
	}
}

func TestRing(t *testing.T) {
	const limit = 10
	text := strings.Repeat("0123456789abcdef", 3)
	for size := 1; size <= 25; size++ {
		r := newRing(limit)
		for chunk := range slices.Chunk([]byte(text), size) {
			if n, err := r.Write(chunk); n != len(chunk) || err != nil {
				t.Fatalf("Write(%q) = %d, %v", chunk, n, err)
			}
		}
		if got, want := r.String(), text[len(text)-limit:]; got != want {
			t.Errorf("in pieces of %d: %q; want %q", size, got, want)
		}
	}
	short := newRing(limit)
	short.Write([]byte("abc"))
	if got := short.String(); got != "abc" {
		t.Errorf("String() = %q; want %q", got, "abc")
	}
}

// TestShellQuote lets a shell take the words apart again.
func TestShellQuote(t *testing.T) {
	words := []string{"plain", "", "two words", "it's", `"$HOME" \ *`, "a\nb", "ünï", "-append", "a=b,c"}
	out, err := exec.Command("sh", "-c", `printf '%s\0' `+shellQuote(words)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
		t.Errorf("the shell gives %q; want %q", got, words)
	}
}

func TestArguments(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := Config{
		Kernel: "vmlinuz", CPUs: 1, Memory: 300<<20 + 1, Accel: AccelTCG,
		Disks: []Disk{{Path: "a,b.img", ReadOnly: true}, {File: f, Serial: "s"}}, ExtraArgs: []string{"-last"},
	}.withDefaults()
	own := strings.Join(c.arguments(inProcess), " ")
	for _, want := range []string{
		"-m 301M ", "size=301M,share=on", "-smp 1,maxcpus=2 ", "-cpu max,-erms ", "-accel tcg,thread=multi",
		"file=a,,b.img,readonly=on", "file=/proc/self/fd/7 ", "virtio-blk-pci,drive=disk1,serial=s",
		"socket,id=vsock,fd=4", "socket,id=monitor,fd=3", "panic=-1",
	} {
		if !strings.Contains(own, want) {
			t.Errorf("arguments: %s\nwant %q in them", own, want)
		}
	}
	if !strings.HasSuffix(own, " -last") {
		t.Errorf("arguments: %s\nwant them to end with the extra ones", own)
	}
	if other := strings.Join(c.arguments(reproducible), " "); strings.Contains(other, "fd=") {
		t.Errorf("reproducible arguments: %s\nwant no inherited descriptor in them", other)
	}
}

// TestExitErrorIsPrintable has a guest that sends its reader's terminal escape sequences.
func TestExitErrorIsPrintable(t *testing.T) {
	err := &ExitError{Reason: ReasonReset, Console: "one\x1b[2J\x07\r\n\n" + strings.Repeat("x", 1000) + "\nKernel panic - not syncing: \x1b]0;gotcha\x07\n"}
	got := err.Error()
	if strings.ContainsAny(got, "\x1b\x07\r") {
		t.Errorf("Error() = %q; want no control characters", got)
	}
	if want := "the VM ended: Kernel panic - not syncing: ]0;gotcha; its console ends:\n\tone[2J\n\txxx"; !strings.HasPrefix(got, want) {
		t.Errorf("Error() = %q; want it to begin with %q", got, want)
	}
	if len(got) > 600 {
		t.Errorf("Error() has %d bytes; want long lines cut", len(got))
	}
}
