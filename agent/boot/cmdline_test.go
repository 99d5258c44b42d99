//go:build linux && cgo

package boot

import (
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/agent/pid1"
)

func TestParseCmdline(t *testing.T) {
	for _, tt := range []struct {
		line string
		want func(c *Config) // changes the default
		errs []string        // parts of each error
	}{
		{line: ""},
		{line: "console=ttyS0 quiet panic=-1 bellhop bellhopport=7 root=/dev/vda\n"},
		{line: "bellhop.port=2048", want: func(c *Config) { c.Port = 2048 }},
		{line: "bellhop.port=1 bellhop.port=2\n", want: func(c *Config) { c.Port = 2 }},
		{line: "bellhop.allow_cid=2,1", want: func(c *Config) { c.AllowCIDs = []uint32{2, 1} }},
		{line: "bellhop.allow-cid=7", want: func(c *Config) { c.AllowCIDs = []uint32{7} }},
		{line: "bellhop.loglevel=debug", want: func(c *Config) { c.LogLevel = slog.LevelDebug }},
		{line: "bellhop.hostname=web-1.example", want: func(c *Config) { c.Hostname = "web-1.example" }},
		{line: `bellhop.hostname="web"`, want: func(c *Config) { c.Hostname = "web" }},
		{line: `x="a bellhop.port=7 b" bellhop.hostname=web`, want: func(c *Config) { c.Hostname = "web" }},
		{line: `"bellhop.hostname=web" bellhop.port=7`, want: func(c *Config) { c.Hostname, c.Port = "web", 7 }},
		{line: "bellhop.ending=reboot", want: func(c *Config) { c.Ending = pid1.Reboot }},
		{line: "bellhop.ending=reboot bellhop.ending=poweroff"},
		{line: "bellhop.clock=1700000000", want: func(c *Config) { c.Clock = time.Unix(1700000000, 0) }},
		{line: "bellhop.nonsense", errs: []string{"bellhop.nonsense from the kernel command line: no such key"}},
		{line: "bellhop.=1 bellhop.port=9", want: func(c *Config) { c.Port = 9 }, errs: []string{"no such key"}},
		{line: "bellhop.port", errs: []string{"a port is a number"}},
		{line: "bellhop.port=0 bellhop.port=4294967295 bellhop.port=-1", errs: []string{"=0", "=4294967295", "=-1"}},
		{line: "bellhop.allow_cid=2,,3 bellhop.allow_cid=", errs: []string{"=2,,3", "bellhop.allow_cid="}},
		{line: `bellhop.hostname="two words"`, errs: []string{`"two words"`}},
		{line: "bellhop.hostname=" + strings.Repeat("x", 65), errs: []string{"1 to 64"}},
		{line: "bellhop.hostname=a/b bellhop.loglevel=loud bellhop.ending=crash bellhop.clock=now", errs: []string{"a/b", "loud", "crash", "now"}},
	} {
		want := DefaultConfig()
		if tt.want != nil {
			tt.want(&want)
		}
		got, errs := ParseCmdline(tt.line)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("ParseCmdline(%q) = %+v; want %+v", tt.line, got, want)
		}
		if len(errs) != len(tt.errs) {
			t.Errorf("ParseCmdline(%q) has errors %v; want %d", tt.line, errs, len(tt.errs))
			continue
		}
		for i, err := range errs {
			if !strings.Contains(err.Error(), tt.errs[i]) {
				t.Errorf("ParseCmdline(%q): error %d = %v; want it to contain %q", tt.line, i, err, tt.errs[i])
			}
		}
	}
}

func TestParseCmdlineGivesEachCallItsOwnCIDs(t *testing.T) {
	a, _ := ParseCmdline("")
	a.AllowCIDs[0] = 99
	if b, _ := ParseCmdline(""); !slices.Equal(b.AllowCIDs, []uint32{2}) {
		t.Errorf("AllowCIDs after another Config was changed = %v; want [2]", b.AllowCIDs)
	}
}

// FuzzParseCmdline checks that every accepted configuration is one that the
// agent can run with.
func FuzzParseCmdline(f *testing.F) {
	f.Add("console=ttyS0 bellhop.port=2048 bellhop.allow_cid=2,1 bellhop.hostname=\"a b\"")
	f.Add("bellhop.clock=1 bellhop.ending=reboot bellhop.loglevel=warn+1 bellhop.x")
	f.Add("\"bellhop.port=1\" bellhop.port=\"\" =\" \"")
	f.Fuzz(func(t *testing.T, line string) {
		cfg, _ := ParseCmdline(line)
		if cfg.Port == 0 || cfg.Port == 1<<32-1 || len(cfg.AllowCIDs) == 0 || cfg.Hostname == "" || len(cfg.Hostname) > 64 {
			t.Errorf("ParseCmdline(%q) = %+v", line, cfg)
		}
		if !cfg.Clock.IsZero() && cfg.Clock.Unix() < 0 {
			t.Errorf("ParseCmdline(%q) has the clock %v", line, cfg.Clock)
		}
	})
}
