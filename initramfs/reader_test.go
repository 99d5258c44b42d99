package initramfs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// entry is one member of an archive as readArchive finds it.
type entry struct {
	Header
	content []byte
}

// readArchive is a strict reader of what Writer writes: nothing else of what
// cpio(5) allows is accepted, so that it catches any deviation.
func readArchive(data []byte) ([]entry, error) {
	var entries []entry
	for offset := 0; ; {
		e, next, err := readEntry(data, offset)
		if err != nil {
			return entries, fmt.Errorf("at byte %d: %w", offset, err)
		}
		if e.Name == trailerName {
			if next != len(data) {
				return entries, fmt.Errorf("%d bytes behind the trailer", len(data)-next)
			}
			return entries, nil
		}
		entries = append(entries, e)
		offset = next
	}
}

func readEntry(data []byte, offset int) (e entry, next int, err error) {
	const headerSize = 110
	if len(data)-offset < headerSize {
		return e, 0, errors.New("truncated header")
	}
	head := data[offset : offset+headerSize]
	if string(head[:6]) != "070701" {
		return e, 0, fmt.Errorf("magic is %q", head[:6])
	}
	var fields [13]int64
	for i := range fields {
		text := head[6+8*i : 14+8*i]
		if _, err := hex.Decode(make([]byte, 4), text); err != nil || !bytes.Equal(bytes.ToLower(text), text) {
			return e, 0, fmt.Errorf("field %d is %q", i, text)
		}
		if fields[i], err = strconv.ParseInt(string(text), 16, 64); err != nil {
			return e, 0, err
		}
	}
	if fields[5] != 0 || fields[7] != 0 || fields[8] != 0 || fields[12] != 0 {
		return e, 0, fmt.Errorf("time, device or check is not zero: %v", fields)
	}
	e.Header = Header{
		Ino: uint32(fields[0]), Mode: uint32(fields[1]), UID: uint32(fields[2]), GID: uint32(fields[3]),
		Nlink: uint32(fields[4]), Size: fields[6], RdevMajor: uint32(fields[9]), RdevMinor: uint32(fields[10]),
	}
	name, offset, err := padded(data, offset+headerSize, fields[11], headerSize)
	if err != nil {
		return e, 0, err
	}
	if len(name) == 0 || bytes.IndexByte(name, 0) != len(name)-1 {
		return e, 0, fmt.Errorf("name is %q", name)
	}
	e.Name = string(name[:len(name)-1])
	e.content, next, err = padded(data, offset, e.Size, 0)
	return e, next, err
}

// padded returns n bytes and the offset behind their padding, which must be zero.
func padded(data []byte, offset int, n int64, before int64) ([]byte, int, error) {
	padding := pad4(before + n)
	if n > int64(len(data)-offset) || n+int64(padding) > int64(len(data)-offset) {
		return nil, 0, errors.New("truncated")
	}
	end := offset + int(n)
	if !bytes.Equal(data[end:end+padding], zeros[:padding]) {
		return nil, 0, errors.New("padding is not zero")
	}
	return data[offset:end], end + padding, nil
}
