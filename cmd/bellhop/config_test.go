package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestParseRun(t *testing.T) {
	cfg, err := parseRun([]string{"--rootfs", "/r", "-it", "-m", "1G", "--cpus=3", "-e", "A=b", "--", "sh", "-c", "exit 1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.interactive || !cfg.terminal || cfg.memory != 1<<30 || cfg.cpus != 3 || cfg.rootfs != "/r" {
		t.Errorf("parseRun = %+v; want -i, -t, 1 GiB, 3 processors, /r", cfg)
	}
	if want := []string{"sh", "-c", "exit 1"}; !slices.Equal(cfg.argv, want) {
		t.Errorf("argv = %q; want %q", cfg.argv, want)
	}
}

// A command may be given without --, and its own flags are not ours.
func TestParseRunStopsAtTheCommand(t *testing.T) {
	cfg, err := parseRun([]string{"--rootfs", "/r", "ls", "-l", "--memory"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"ls", "-l", "--memory"}; !slices.Equal(cfg.argv, want) {
		t.Errorf("argv = %q; want %q", cfg.argv, want)
	}
}

func TestParseRunRejects(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string // in the error
	}{
		{[]string{"--", "true"}, "--rootfs"},
		{[]string{"--rootfs", "/r"}, "no command"},
		{[]string{"--rootfs", "/r", "-m", "lots", "--", "true"}, "--memory"},
		{[]string{"--rootfs", "/r", "-m", "1M", "--", "true"}, "at least 128M"},
		{[]string{"--rootfs", "/r", "-m", "99999999999G", "--", "true"}, "too large"},
		{[]string{"--rootfs", "/r", "--cpus", "0", "--", "true"}, "--cpus"},
		{[]string{"--rootfs", "/r", "-e", "=x", "--", "true"}, "--env"},
		{[]string{"--no-such-flag"}, "no-such-flag"},
	} {
		_, err := parseRun(test.args, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("parseRun(%q) = %v; want an error with %q", test.args, err, test.want)
		}
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if _, err := parseRun([]string{"--help"}, &out); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("parseRun(--help) = %v; want ErrHelp", err)
	}
	for _, want := range []string{"--rootfs", "--memory", "--tty", "--interactive"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %s", want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "10": 10, "1k": 1024, "512M": 512 << 20, "2g": 2 << 30} {
		if got, err := parseBytes(in); got != want || err != nil {
			t.Errorf("parseBytes(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "M", "-1", "1.5G", "1T", "9223372036854775808", "9007199254740992k"} {
		if got, err := parseBytes(in); err == nil {
			t.Errorf("parseBytes(%q) = %d; want an error", in, got)
		}
	}
}

func TestParseUser(t *testing.T) {
	for in, want := range map[string][2]uint32{"": {0, 0}, "1": {1, 0}, "1000:50": {1000, 50}} {
		uid, gid, err := parseUser(in)
		if uid != want[0] || gid != want[1] || err != nil {
			t.Errorf("parseUser(%q) = %d, %d, %v; want %v", in, uid, gid, err, want)
		}
	}
	for _, in := range []string{":", "root", "-1", "1:", "1:x", "4294967296"} {
		if _, _, err := parseUser(in); err == nil {
			t.Errorf("parseUser(%q) succeeded; want an error", in)
		}
	}
}

func TestExpandEnv(t *testing.T) {
	t.Setenv("BELLHOP_TEST_SET", "here")
	got, err := expandEnv([]string{"A=1", "BELLHOP_TEST_SET", "BELLHOP_TEST_UNSET", "B="})
	if want := []string{"A=1", "BELLHOP_TEST_SET=here", "B="}; !slices.Equal(got, want) || err != nil {
		t.Errorf("expandEnv = %q, %v; want %q", got, err, want)
	}
}

// The last of a name wins, so --env overrides the default.
func TestEnvironment(t *testing.T) {
	got := environment([]string{"PATH=/bin"}, &config{env: []string{"HOME=/h", "PATH=/x", "HOME=/i"}})
	if want := []string{"PATH=/x", "HOME=/i"}; !slices.Equal(got, want) {
		t.Errorf("environment = %q; want %q", got, want)
	}
}
