package initramfs

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is the archive's. The kernel finds out which by itself.
type Compression int

// The compressions. Default is the one that boots fastest within the size that
// we allow ourselves; docs/decisions/0002-initramfs-compression.md measures them.
const (
	Default Compression = iota
	None
	Gzip // level 9
	Zstd // the encoder's best level
)

var compressionNames = [...]string{Default: "default", None: "none", Gzip: "gzip", Zstd: "zstd"}

// String returns the name that [ParseCompression] takes.
func (c Compression) String() string {
	if c < 0 || int(c) >= len(compressionNames) {
		return fmt.Sprintf("Compression(%d)", int(c))
	}
	return compressionNames[c]
}

// ParseCompression is the inverse of String.
func ParseCompression(name string) (Compression, error) {
	for c, n := range compressionNames {
		if n == name {
			return Compression(c), nil
		}
	}
	return 0, fmt.Errorf("unknown compression %q: want one of %q", name, compressionNames)
}

// writer compresses to w. Closing it ends the stream and leaves w open. Encoders
// run without goroutines, since their output must not depend on timing.
func (c Compression) writer(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case None:
		return nopCloser{w}, nil
	case Gzip:
		return gzip.NewWriterLevel(w, gzip.BestCompression)
	case Default, Zstd:
		return zstd.NewWriter(w,
			zstd.WithEncoderLevel(zstd.SpeedBestCompression),
			zstd.WithEncoderConcurrency(1))
	}
	return nil, fmt.Errorf("unknown compression %v", c)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
