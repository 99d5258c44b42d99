//go:build linux

package nursery

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// A filter is the decoded form of Request.Seccomp: flags of seccomp(2) and the program, in which each instruction is a struct sock_filter.
type filter struct {
	flags   uint32
	program []byte
}

// filterHeader is what precedes the program: a magic, and the flags, in the machine's byte order.
var filterMagic = []byte("BHF1")

const filterHeader = 8

func decodeFilter(b []byte) (filter, error) {
	if len(b) == 0 {
		return filter{}, nil
	}
	if len(b) <= filterHeader || !bytes.HasPrefix(b, filterMagic) || (len(b)-filterHeader)%unix.SizeofSockFilter != 0 {
		return filter{}, fmt.Errorf("%w: seccomp filter not made by Seccomp", ErrInvalid)
	}
	return filter{flags: binary.NativeEndian.Uint32(b[4:]), program: b[filterHeader:]}, nil
}

func (f filter) encode() []byte {
	b := append([]byte(nil), filterMagic...)
	b = binary.NativeEndian.AppendUint32(b, f.flags)
	return append(b, f.program...)
}
