package streams_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/bellhop-vm/bellhop/hostclient/internal/streams"
)

// BenchmarkEcho is one byte through both relays, a copying process and back.
func BenchmarkEcho(b *testing.B) {
	in, toIn := io.Pipe()
	fromOut, out := io.Pipe()
	p := newPair(b, streams.Config{Stdin: in, Stdout: out}, nil)
	go func() {
		_, _ = io.Copy(struct{ io.Writer }{p.files[1]}, struct{ io.Reader }{p.files[0]})
		p.files[1].Close()
	}()
	one := make([]byte, 1)
	for b.Loop() {
		if _, err := toIn.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(fromOut, one); err != nil {
			b.Fatal(err)
		}
	}
	toIn.Close()
}

// BenchmarkOutput is a process that writes 64 KiB at a time.
func BenchmarkOutput(b *testing.B) {
	p := newPair(b, streams.Config{Stdout: io.Discard}, nil)
	block := make([]byte, 64<<10)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := p.files[1].Write(block); err != nil {
			b.Fatal(err)
		}
	}
	p.files[1].Close()
	if _, err := p.finish(); err != nil {
		b.Fatal(err)
	}
}

// zeros is an endless Reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// BenchmarkInput is a process that reads 64 KiB at a time.
func BenchmarkInput(b *testing.B) {
	p := newPair(b, streams.Config{Stdin: zeros{}}, nil)
	block := make([]byte, 64<<10)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := io.ReadFull(p.files[0], block); err != nil {
			b.Fatal(err)
		}
	}
}

// plainPair is the same path without the protocol, to compare with: io.Copy from the Reader to a socket, from there to a pipe, and back.
func plainPair(b *testing.B, in io.Reader, out io.Writer) (stdin, stdout *os.File) {
	b.Helper()
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	connect := func() (guest, host net.Conn) {
		if guest, err = net.Dial("unix", l.Addr().String()); err != nil {
			b.Fatal(err)
		}
		if host, err = l.Accept(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { guest.Close(); host.Close() })
		return guest, host
	}
	pipe := func() (r, w *os.File) {
		if r, w, err = os.Pipe(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	cp := func(w io.Writer, r io.Reader) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 64<<10))
	}
	stdin, toProcess := pipe()
	fromProcess, stdout := pipe()
	if in != nil {
		guest, host := connect()
		go cp(host, in)
		go cp(toProcess, guest)
	}
	if out != nil {
		guest, host := connect()
		go cp(out, host)
		go cp(guest, fromProcess)
	}
	return stdin, stdout
}

func BenchmarkEchoPlain(b *testing.B) {
	in, toIn := io.Pipe()
	fromOut, out := io.Pipe()
	r, w := plainPair(b, in, out)
	go func() { _, _ = io.Copy(struct{ io.Writer }{w}, struct{ io.Reader }{r}) }()
	one := make([]byte, 1)
	for b.Loop() {
		_, _ = toIn.Write(one)
		_, _ = io.ReadFull(fromOut, one)
	}
	toIn.Close()
}

func BenchmarkOutputPlain(b *testing.B) {
	_, w := plainPair(b, nil, io.Discard)
	block := make([]byte, 64<<10)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := w.Write(block); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInputPlain(b *testing.B) {
	r, _ := plainPair(b, zeros{}, nil)
	block := make([]byte, 64<<10)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := io.ReadFull(r, block); err != nil {
			b.Fatal(err)
		}
	}
}
