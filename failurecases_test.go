package bellhop_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFailureCases checks that every test that docs/failure-cases.md names exists in the package that it names.
func TestFailureCases(t *testing.T) {
	page, err := os.ReadFile("docs/failure-cases.md")
	if err != nil {
		t.Fatal(err)
	}
	if found := checkNamedTests(t, string(page)); found < 50 {
		t.Errorf("the page names %d tests; want the many that it has", found)
	}
}

// checkNamedTests checks that the tests that a page names, as in "vmtest `TestProcesses/Kill`", exist in the package that it names, and counts them.
func checkNamedTests(t *testing.T, page string) (found int) {
	t.Helper()
	named := regexp.MustCompile("(?:([a-z0-9/]+) )?`(Test\\w+)((?:/\\w+)?)`")
	sources := map[string]string{}
	for line := range strings.Lines(page) {
		pkg := "" // the last one named in the row holds
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			if m[1] != "" {
				pkg = m[1]
			}
			if _, ok := sources[pkg]; !ok {
				sources[pkg] = testSources(t, pkg)
			}
			found++
			if !strings.Contains(sources[pkg], "func "+m[2]+"(") {
				t.Errorf("%s has no %s", pkg, m[2])
			}
			if sub := strings.TrimPrefix(m[3], "/"); sub != "" && !strings.Contains(sources[pkg], `"`+sub+`"`) {
				t.Errorf("%s has no %s/%s", pkg, m[2], sub)
			}
		}
	}
	return found
}

// testSources gives all test files of a package.
func testSources(t *testing.T, pkg string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(pkg), "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("package %q has no test files (%v)", pkg, err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}
