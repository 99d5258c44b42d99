//go:build linux

package kmod

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseModuleList(t *testing.T) {
	for _, tt := range []struct {
		list string
		want []string
		err  string
	}{
		{list: ""},
		{list: "/a.ko\n/b c.ko\n", want: []string{"/a.ko", "/b c.ko"}},
		{list: "/a.ko\r\n\n# a comment\n  /b.ko  ", want: []string{"/a.ko", "/b.ko"}},
		{list: "/a.ko\nb.ko\n/c.ko\n", want: []string{"/a.ko"}, err: `line 2: "b.ko" is not an absolute path`},
		{list: "/" + strings.Repeat("x", 1<<17), err: "token too long"},
		{list: strings.Repeat("/x\n", maxModules+1), want: slices.Repeat([]string{"/x"}, maxModules), err: "more than 4096"},
	} {
		got, err := parseModuleList(strings.NewReader(tt.list))
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("parseModuleList(%.40q) = %.80q, %v; want %.80q, %q", tt.list, got, err, tt.want, tt.err)
		}
	}
}

func FuzzParseModuleList(f *testing.F) {
	f.Add("/a.ko\n# x\n\nb")
	f.Fuzz(func(t *testing.T, list string) {
		paths, _ := parseModuleList(strings.NewReader(list))
		for _, path := range paths {
			if !filepath.IsAbs(path) || strings.Contains(path, "\n") {
				t.Errorf("parseModuleList(%q) has the path %q", list, path)
			}
		}
	})
}

func TestLoadingGoesOn(t *testing.T) {
	list := filepath.Join(t.TempDir(), "modules")
	if err := os.WriteFile(list, []byte("/a.ko\n/missing.ko\n/c.ko\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var loaded, warnings []string
	load := func(path string) error {
		if path == "/missing.ko" {
			return os.ErrNotExist
		}
		loaded = append(loaded, path)
		return nil
	}
	warn := func(err error) { warnings = append(warnings, err.Error()) }

	loadAll(list, load, warn)
	if want := []string{"/a.ko", "/c.ko"}; !slices.Equal(loaded, want) {
		t.Errorf("loaded %q; want %q", loaded, want)
	}
	if want := []string{"cannot load module /missing.ko: file does not exist"}; !slices.Equal(warnings, want) {
		t.Errorf("warnings = %q; want %q", warnings, want)
	}

	loaded, warnings = nil, nil
	loadAll(filepath.Join(t.TempDir(), "none"), load, warn)
	if len(loaded)+len(warnings) != 0 {
		t.Errorf("without a list: loaded %q, warnings %q; want none", loaded, warnings)
	}
}
