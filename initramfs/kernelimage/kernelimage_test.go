package kernelimage

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bzImage is the head of an x86 kernel, with what Parse looks at.
func bzImage(xloadflags uint16, version string) []byte {
	image := make([]byte, 0x400)
	copy(image[0x1fe:], "\x55\xaa")
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(image[0x236:], xloadflags)
	if version != "" {
		binary.LittleEndian.PutUint16(image[0x20e:], 0x200)
		image = append(image, version...)
	}
	return image
}

func arm64Image() []byte {
	image := make([]byte, 64)
	copy(image[0x38:], "ARM\x64")
	return image
}

func zboot(machine uint16) []byte {
	image := make([]byte, 0x100)
	copy(image, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(image[0x3c:], 0x80)
	copy(image[0x80:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(image[0x84:], machine)
	return image
}

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(data)
	w.Close()
	return out.Bytes()
}

func elfHead(machine byte) []byte {
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	head[16], head[18], head[20], head[52] = 2, machine, 1, 64
	return head
}

func TestParse(t *testing.T) {
	tests := []struct {
		name  string
		image []byte
		want  Info
	}{
		{"bzImage", bzImage(1, "6.1.0-9-amd64 (someone@example.org) #1 SMP"), Info{"6.1.0-9-amd64", "amd64"}},
		{"bzImage, version at the end", bzImage(0x7f, "6.1"), Info{"6.1", "amd64"}},
		{"bzImage without version", bzImage(1, ""), Info{"", "amd64"}},
		{"32-bit bzImage", bzImage(0, "5.10\x00"), Info{"5.10", "386"}},
		{"arm64", arm64Image(), Info{"", "arm64"}},
		{"arm64, gzipped", gzipped(arm64Image()), Info{"", "arm64"}},
		{"arm64, zboot", zboot(0xaa64), Info{"", "arm64"}},
		{"riscv64, zboot", zboot(0x5064), Info{"", "riscv64"}},
		{"ELF of arm64", elfHead(183), Info{"", "arm64"}},
		{"ELF of amd64", elfHead(62), Info{"", "amd64"}},
	}
	for _, tt := range tests {
		if got, err := Parse(bytes.NewReader(tt.image)); err != nil || got != tt.want {
			t.Errorf("%s: Parse() = %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, image := range []string{
		"", "MZ", "\x7fELF", "\x1f\x8b", "hello", string(gzipped([]byte("text"))), string(zboot(0)[:0x40]),
		string(bzImage(1, "")[:0x210]), strings.Repeat("x", 5000),
	} {
		if got, err := Parse(strings.NewReader(image)); !errors.Is(err, ErrNotKernel) {
			t.Errorf("Parse(%.20q) = %+v, %v; want %v", image, got, err, ErrNotKernel)
		}
	}
}

func TestReadNamesThePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || err.Error() != "kernel "+path+": not a Linux kernel image" {
		t.Errorf("Read() = %v; want an error that names the path", err)
	}
	if _, err := Read("/no/such"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Read() = %v; want %v", err, os.ErrNotExist)
	}
}

func FuzzParse(f *testing.F) {
	for _, image := range [][]byte{bzImage(1, "6.1 x"), arm64Image(), gzipped(arm64Image()), zboot(0xaa64), elfHead(62)} {
		f.Add(image)
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		info, err := Parse(bytes.NewReader(image))
		if err == nil && info.Arch == "" {
			t.Errorf("Parse(%q) has no architecture", image)
		}
		if strings.ContainsAny(info.Release, " \x00") {
			t.Errorf("Parse(%q) has the release %q", image, info.Release)
		}
	})
}
