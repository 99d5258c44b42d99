//go:build linux

package extruntime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func TestLastError(t *testing.T) {
	for _, tt := range []struct {
		name, log, want string
	}{
		{"nothing", "", ""},
		{"runc", `{"level":"warning","msg":"first","time":"2024-01-01T00:00:00Z"}` + "\n" +
			`{"level":"error","msg":"runc create failed: unable to start","time":"2024-01-01T00:00:00Z"}` + "\n", "runc create failed: unable to start"},
		{
			"crun", `{"msg":"executable file not found in $PATH: No such file or directory", "level":"error", "time":"2024-01-01T00:00:00Z"}`,
			"executable file not found in $PATH: No such file or directory",
		},
		{"a warning behind the error", `{"level":"error","msg":"why"}` + "\n" + `{"level":"warning","msg":"cleaning"}`, "why"},
		{"warnings only", `{"level":"warning","msg":"one"}` + "\n" + `{"level":"info","msg":"two"}`, "two"},
		{"plain text", "one\ntwo\n\n", "two"},
		{"a cut line", `"time":"x"}` + "\n" + `{"level":"error","msg":"whole"}`, "whole"},
		{"other JSON", `[1,2]`, "[1,2]"},
		{"control characters", "{\"level\":\"error\",\"msg\":\"a\\u001b[31m\\nb\\u0000\\u202ec\"}", "a [31m b c"},
		{"bad UTF-8", "a\xff\xfeb", "a?b"},
		{"long", strings.Repeat("x", maxMessage+10), strings.Repeat("x", maxMessage) + "..."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := lastError([]byte(tt.log)); got != tt.want {
				t.Errorf("lastError(%q) = %q; want %q", tt.log, got, tt.want)
			}
		})
	}
}

// FuzzLastError holds that what is quoted of a runtime is one bounded line of text.
func FuzzLastError(f *testing.F) {
	f.Add([]byte(`{"level":"error","msg":"why\n"}`))
	f.Add([]byte("a\xffb\x00\n\x1b[0m"))
	f.Add([]byte("{}\n[]\nnull\n\"\""))
	f.Fuzz(func(t *testing.T, log []byte) {
		got := lastError(log)
		if len(got) > 3*maxMessage+3 || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("lastError(%q) = %q; want a bounded, printable line", log, got)
		}
	})
}

func TestReadTail(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "log")
	text := strings.Repeat("y", maxLog) + "end"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := readTail(file); err != nil || string(b) != text[3:] {
		t.Errorf("readTail() = %d bytes, %v; want the last %d", len(b), err, maxLog)
	}
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, link, dir, filepath.Join(dir, "missing")} {
		if b, err := readTail(path); err == nil {
			t.Errorf("readTail(%s) = %q; want an error", filepath.Base(path), b)
		}
	}
}
