//go:build linux

package extruntime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

const (
	maxLog     = 16 << 10 // of a runtime's log, at its end, in bytes
	maxMessage = 1024     // of what is quoted in an error, in bytes
)

// lastError gives the last error in a runtime's log, or its last message if none is marked as an error; empty if it says nothing. The log has JSON lines, as --log-format json asks
// for, but nothing relies on that.
func lastError(log []byte) string {
	var last, lastError string
	for line := range bytes.Lines(log) {
		var entry struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
		}
		if json.Unmarshal(line, &entry) != nil {
			entry.Msg = string(line)
		}
		msg := clean(entry.Msg)
		if msg == "" {
			continue
		}
		last = msg
		if entry.Level == "error" || entry.Level == "fatal" {
			lastError = msg
		}
	}
	if lastError != "" {
		return lastError
	}
	return last
}

// clean makes one bounded line of untrusted text: valid UTF-8 without control characters.
func clean(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "..."
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.Join(strings.Fields(s), " ")
}

// readTail reads the last bytes of a regular file; nothing if there is none.
func readTail(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, st.Size()-maxLog), maxLog))
}
