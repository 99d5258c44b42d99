//go:build linux

package speccheck

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// checkText refuses a NUL byte anywhere: the kernel would take the text to end there.
func checkText(s *specs.Spec) error {
	if field := withNUL(reflect.ValueOf(s), ""); field != "" {
		return failure.Field(field, "contains a NUL byte")
	}
	return nil
}

// withNUL gives the path of the first text with a NUL byte in it.
func withNUL(v reflect.Value, at string) string {
	switch v.Kind() {
	case reflect.String:
		if strings.IndexByte(v.String(), 0) >= 0 {
			return at
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return withNUL(v.Elem(), at)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if field := withNUL(v.Index(i), at+"["+strconv.Itoa(i)+"]"); field != "" {
				return field
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if withNUL(key, at)+withNUL(v.MapIndex(key), at) != "" {
				return at
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := withNUL(v.Field(i), join(at, v.Type().Field(i))); field != "" {
				return field
			}
		}
	}
	return ""
}

// join appends a field's name in JSON to a path.
func join(at string, f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if at == "" || name == "" { // an embedded struct has no name of its own
		return at + name
	}
	return at + "." + name
}
