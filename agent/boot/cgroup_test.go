//go:build linux && cgo

package boot

import "testing"

func TestOwnCgroup(t *testing.T) {
	for _, tt := range []struct {
		content, want string
	}{
		{"0::/\n", "/"},
		{"0::/system.slice/bellhopd.service\n", "/system.slice/bellhopd.service"},
		{"0::/system.slice/bellhopd.service/bellhop-agent\n", "/system.slice/bellhopd.service"},
		{"0::/bellhop-agent\n", "/"},
		{"12:pids:/x\n1:name=systemd:/y\n0::/z\n", "/z"},
		{"12:pids:/x\n", ""},
		{"0::x\n", ""},
		{"", ""},
	} {
		got, err := ownCgroup(tt.content)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("ownCgroup(%q) = %q, %v; want %q", tt.content, got, err, tt.want)
		}
	}
}
