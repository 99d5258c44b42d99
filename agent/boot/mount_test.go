//go:build linux && cgo

package boot

import (
	"os"
	"strings"
	"testing"
)

func TestMountAllHeedsNeed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mount(2) refuses everything to this user: run the test as root")
	}
	table := func(n need) []mount { return []mount{{fstype: "bellhop-none", target: "/x", need: n}} }
	for _, tt := range []struct {
		need             need
		failed, warnings bool
	}{{required, true, false}, {wanted, false, true}, {ifPresent, false, false}} {
		var warnings []error
		err := mountAll(t.TempDir(), table(tt.need), func(err error) { warnings = append(warnings, err) })
		if (err != nil) != tt.failed || (len(warnings) > 0) != tt.warnings {
			t.Errorf("mountAll of a file system that is need %d = %v, warnings %v; want failed %v, warned %v", tt.need, err, warnings, tt.failed, tt.warnings)
		}
		for _, err := range append(warnings, err) {
			if err != nil && !strings.Contains(err.Error(), "cannot mount bellhop-none on ") {
				t.Errorf("error = %v; want it to name file system and target", err)
			}
		}
	}
}
