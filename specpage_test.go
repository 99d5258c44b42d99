package bellhop_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestSpecPage checks that docs/oci-spec.md has a row for every field of the runtime-spec that go.mod names, that it names no others, and that the tests of its rows exist.
func TestSpecPage(t *testing.T) {
	page, err := os.ReadFile("docs/oci-spec.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := specRows(t, string(page))
	var fields []string
	walkFields(reflect.TypeFor[specs.Spec](), "", func(name string) (deeper bool) {
		fields = append(fields, name)
		state, ok := rows[name]
		if !ok {
			t.Errorf("docs/oci-spec.md has no row for %s", name)
		}
		return state == "supported" // what is refused is refused with all that is in it
	})
	for name := range rows {
		if !slices.Contains(fields, name) {
			t.Errorf("docs/oci-spec.md has a row for %s, which is no field of the runtime-spec", name)
		}
	}
	if found := checkNamedTests(t, string(page)); found < 100 {
		t.Errorf("the page names %d tests; want the many that it has", found)
	}
}

// specRows gives the state of each field: rows are "| `field` `field` | state | notes | tests |".
func specRows(t *testing.T, page string) map[string]string {
	t.Helper()
	field := regexp.MustCompile("`([a-zA-Z0-9.]+)`")
	rows := make(map[string]string)
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if !strings.HasPrefix(line, "| `") || len(cells) != 6 {
			continue
		}
		state, test := strings.TrimSpace(cells[2]), strings.TrimSpace(cells[4])
		if state != "supported" && state != "refused" {
			t.Errorf("%s: state %q; want supported or refused", strings.TrimSpace(cells[1]), state)
		}
		if test == "" {
			t.Errorf("%s: no test is named", strings.TrimSpace(cells[1]))
		}
		for _, m := range field.FindAllStringSubmatch(cells[1], -1) {
			rows[m[1]] = state
		}
	}
	return rows
}

// walkFields visits every field by its path of JSON names. Lists and maps are stepped into without a name of their own.
func walkFields(typ reflect.Type, at string, visit func(string) bool) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		walkFields(typ.Elem(), at, visit)
	case reflect.Struct:
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous && name == "" {
				walkFields(f.Type, at, visit)
				continue
			}
			if at != "" {
				name = at + "." + name
			}
			if visit(name) {
				walkFields(f.Type, name, visit)
			}
		}
	}
}
