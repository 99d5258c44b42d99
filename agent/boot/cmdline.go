//go:build linux && cgo

package boot

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/bellhop-vm/bellhop/agent/pid1"
	"github.com/bellhop-vm/bellhop/protocol"
)

// keyPrefix begins every word of the kernel command line that is for Bellhop.
const keyPrefix = "bellhop."

// Config is what the kernel command line or a service's flags set.
type Config struct {
	Port      uint32      // of the control connection; ControlPort by default
	AllowCIDs []uint32    // which may connect to Port; the host's, 2, by default
	LogLevel  slog.Level  // Info by default
	Hostname  string      // of the guest; "bellhop" by default
	Ending    pid1.Ending // how PID 1 ends the machine; PowerOff by default
	Clock     time.Time   // the wall clock is not set back, but forward to it; zero: is left alone
}

// DefaultConfig is the configuration of an empty command line.
func DefaultConfig() Config {
	return Config{Port: protocol.ControlPort, AllowCIDs: []uint32{hostCID}, Hostname: "bellhop"}
}

// hostCID is VMADDR_CID_HOST of vsock(7).
const hostCID = 2

// key is one bellhop.* word: its name without the prefix and how its value
// changes the configuration. A failing set leaves the configuration as it was.
type key struct {
	name string
	set  func(c *Config, value string) error
}

func keys() []key {
	return []key{
		{"port", setPort},
		{"allow_cid", setAllowCIDs},
		{"loglevel", setLogLevel},
		{"hostname", setHostname},
		{"ending", setEnding},
		{"clock", setClock},
	}
}

// ParseCmdline reads the bellhop.* words of a kernel command line, in the
// kernel's own syntax: words are separated by white space, which double quotes
// protect, and - and _ in a key are the same. Of a key that comes twice the last
// counts. What it cannot use it leaves at the default and reports, one error for
// each word; other software's words are ignored.
func ParseCmdline(line string) (Config, []error) {
	cfg := DefaultConfig()
	var errs []error
	for _, word := range splitWords(line) {
		name, value, _ := strings.Cut(strings.TrimPrefix(word, `"`), "=")
		name = strings.ReplaceAll(name, "-", "_")
		if !strings.HasPrefix(name, keyPrefix) {
			continue
		}
		if err := cfg.Set(name[len(keyPrefix):], unquote(value)); err != nil {
			errs = append(errs, fmt.Errorf("cannot use %s from the kernel command line: %w", word, err))
		}
	}
	return cfg, errs
}

// Set sets the key name (without its prefix) to value. On an error c is as it was.
func (c *Config) Set(name, value string) error {
	for _, k := range keys() {
		if k.name == name {
			return k.set(c, value)
		}
	}
	return errors.New("no such key")
}

// splitWords splits as the kernel's next_arg does: quotes may stand anywhere in
// a word and stay in it.
func splitWords(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	})
}

// unquote takes the quotes around a value off, or what is left of those around
// a whole word: the kernel knows key="a b" and "key=a b".
func unquote(value string) string {
	return strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
}

func setPort(c *Config, value string) error {
	// The highest number is VMADDR_PORT_ANY.
	port, err := strconv.ParseUint(value, 10, 32)
	if err != nil || port == 0 || port == 1<<32-1 {
		return errors.New("a port is a number from 1 to 4294967294")
	}
	c.Port = uint32(port)
	return nil
}

func setAllowCIDs(c *Config, value string) error {
	var cids []uint32
	for word := range strings.SplitSeq(value, ",") {
		cid, err := strconv.ParseUint(word, 10, 32)
		if err != nil || cid == 1<<32-1 {
			return errors.New("CIDs are numbers from 0 to 4294967294 with commas between them")
		}
		cids = append(cids, uint32(cid))
	}
	c.AllowCIDs = cids
	return nil
}

func setLogLevel(c *Config, value string) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(value)); err != nil {
		return errors.New("a log level is debug, info, warn or error")
	}
	c.LogLevel = level
	return nil
}

func setHostname(c *Config, value string) error {
	const maxHostname = 64 // __NEW_UTS_LEN
	if value == "" || len(value) > maxHostname || strings.ContainsFunc(value, notInHostname) {
		return fmt.Errorf("a host name has 1 to %d letters, digits, dots and hyphens", maxHostname)
	}
	c.Hostname = value
	return nil
}

func notInHostname(r rune) bool {
	return !(r == '-' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
}

func setEnding(c *Config, value string) error {
	switch value {
	case "poweroff":
		c.Ending = pid1.PowerOff
	case "reboot":
		c.Ending = pid1.Reboot
	default:
		return errors.New("an ending is poweroff or reboot")
	}
	return nil
}

func setClock(c *Config, value string) error {
	seconds, err := strconv.ParseUint(value, 10, 35) // up to the year 3058
	if err != nil {
		return errors.New("a clock is a number of seconds since 1970")
	}
	c.Clock = time.Unix(int64(seconds), 0)
	return nil
}
