package initramfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGolden compares with an archive whose bytes were checked by hand against cpio(5).
func TestGolden(t *testing.T) {
	var got bytes.Buffer
	w := NewWriter(&got)
	write := func(h Header, content string) {
		t.Helper()
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	write(Header{Name: ".", Ino: 1, Mode: 0o40755, Nlink: 2}, "")
	write(Header{Name: "console", Ino: 2, Mode: 0o20600, Nlink: 1, RdevMajor: 5, RdevMinor: 1}, "")
	write(Header{Name: "init", Ino: 3, Mode: 0o100755, UID: 1000, GID: 0xfffffffe, Nlink: 1}, "hello")
	write(Header{Name: "lib", Ino: 4, Mode: 0o120777, Nlink: 1}, "usr/lib")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "golden.cpio"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("archive:\n%q\nwant:\n%q", got.Bytes(), want)
	}
}

// TestRealCpio lets the real cpio and busybox unpack an archive.
func TestRealCpio(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	err := BuildFile(archive, Spec{
		Files: []File{
			{Path: "/a/file", Content: []byte("content"), Mode: 0o640},
			{Path: "/a/link", Content: []byte("file"), Mode: os.ModeSymlink},
			{Path: "/b", Mode: os.ModeNamedPipe | 0o600},
		},
		Compression: None,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range [][]string{{"cpio"}, {"busybox", "cpio"}} {
		t.Run(strings.Join(tool, " "), func(t *testing.T) {
			if _, err := exec.LookPath(tool[0]); err != nil {
				t.Skipf("no %s: apt-get install %s", tool[0], tool[0])
			}
			f, err := os.Open(archive)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd := exec.Command(tool[0], append(tool[1:], "-t")...)
			cmd.Stdin = f
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.Bytes())
			}
			want := ". a a/file a/link b dev dev/console dev/null etc etc/bellhop etc/bellhop/modules proc run sys tmp"
			if got := strings.Join(strings.Fields(string(out)), " "); got != want {
				t.Errorf("%v -t = %q; want %q", tool, got, want)
			}
		})
	}
}

func TestHeaderErrors(t *testing.T) {
	tests := []struct {
		name string
		h    Header
		want string
	}{
		{"empty name", Header{}, "empty name"},
		{"NUL", Header{Name: "a\x00b"}, "NUL"},
		{"trailer", Header{Name: "TRAILER!!!"}, "would end the archive"},
		{"long name", Header{Name: strings.Repeat("n", 4096)}, "the kernel takes 4095"},
		{"longest name", Header{Name: strings.Repeat("n", 4095)}, ""},
		{"4 GiB", Header{Name: "big", Mode: typeRegular, Size: 1 << 32}, "the newc format takes 4294967295"},
		{"4 GiB - 1", Header{Name: "big", Mode: typeRegular, Size: 1<<32 - 1}, ""},
		{"negative size", Header{Name: "n", Size: -1}, "negative"},
		{"long target", Header{Name: "l", Mode: typeSymlink, Size: 4096}, "link target"},
		{"longest target", Header{Name: "l", Mode: typeSymlink, Size: 4095}, ""},
	}
	for _, tt := range tests {
		err := NewWriter(io.Discard).WriteHeader(&tt.h)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: WriteHeader() = %v; want %q", tt.name, err, tt.want)
		}
	}
}

func TestWriterKeepsToSizes(t *testing.T) {
	w := NewWriter(io.Discard)
	if err := w.WriteHeader(&Header{Name: "f", Mode: typeRegular, Size: 3}); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write([]byte("ab")); n != 2 || err != nil {
		t.Errorf("Write() = %d, %v; want 2, nil", n, err)
	}
	if err := w.Close(); err == nil {
		t.Error("Close() of an incomplete member = nil; want an error")
	}
	if n, err := w.Write([]byte("cd")); n != 1 || !errors.Is(err, ErrWriteTooLong) {
		t.Errorf("Write() = %d, %v; want 1, %v", n, err, ErrWriteTooLong)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close() = %v; want nil", err)
	}
}

// failAfter fails once n bytes have been written, as a full disk does.
type failAfter struct{ n int }

var errFull = errors.New("disk full")

func (f *failAfter) Write(p []byte) (int, error) {
	if len(p) > f.n {
		n := f.n
		f.n = 0
		return n, errFull
	}
	f.n -= len(p)
	return len(p), nil
}

// TestFailingWriter fails at every byte of an archive.
func TestFailingWriter(t *testing.T) {
	spec := Spec{Files: []File{{Path: "/f", Content: []byte("abc")}}, Compression: None}
	var whole bytes.Buffer
	if err := Build(&whole, spec); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if err := Build(&failAfter{n}, spec); !errors.Is(err, errFull) {
			t.Fatalf("with room for %d bytes: Build() = %v; want %v", n, err, errFull)
		}
	}
}

// FuzzWriter checks that what the writer takes, the strict reader gives back.
func FuzzWriter(f *testing.F) {
	f.Add("init", []byte("x"), uint32(0o100755), uint32(1), "dev", []byte(nil))
	f.Add(".", []byte(nil), uint32(0o40755), uint32(2), "TRAILER!!!", []byte("y"))
	f.Fuzz(func(t *testing.T, name1 string, content1 []byte, mode, ino uint32, name2 string, content2 []byte) {
		var out bytes.Buffer
		w := NewWriter(&out)
		var want []entry
		for _, e := range []entry{
			{Header{Name: name1, Ino: ino, Mode: mode, Nlink: 1, Size: int64(len(content1))}, content1},
			{Header{Name: name2, Ino: ino + 1, Mode: mode, UID: ino, GID: mode, RdevMinor: ino, Size: int64(len(content2))}, content2},
		} {
			if w.WriteHeader(&e.Header) != nil {
				continue
			}
			if _, err := w.Write(e.content); err != nil {
				t.Fatal(err)
			}
			want = append(want, e)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := readArchive(out.Bytes())
		if err != nil || len(got) != len(want) {
			t.Fatalf("readArchive() = %d entries, %v; want %d", len(got), err, len(want))
		}
		for i := range got {
			if got[i].Header != want[i].Header || !bytes.Equal(got[i].content, want[i].content) {
				t.Errorf("entry %d = %+v; want %+v", i, got[i], want[i])
			}
		}
	})
}

// FuzzReader checks that the reader survives anything, and accepts only what
// the writer writes: writing again what it read gives the same bytes.
func FuzzReader(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "golden.cpio"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := readArchive(data)
		if err != nil {
			return
		}
		var again bytes.Buffer
		w := NewWriter(&again)
		for _, e := range entries {
			if err := w.WriteHeader(&e.Header); err != nil {
				return // the kernel would not take it
			}
			w.Write(e.content)
		}
		w.Close()
		// The trailer's own fields are free.
		if n := again.Len() - 124; !bytes.Equal(again.Bytes()[:n], data[:n]) {
			t.Errorf("written again:\n%q\nread:\n%q", again.Bytes(), data)
		}
	})
}
