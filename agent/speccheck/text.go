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
	if field, found := withNUL(reflect.ValueOf(s)); found {
		return failure.Field(strings.TrimPrefix(field, "."), "contains a NUL byte")
	}
	return nil
}

// withNUL looks for a text with a NUL byte in it, and gives the path to the first, which is put together on the way back.
func withNUL(v reflect.Value) (path string, found bool) {
	switch v.Kind() {
	case reflect.String:
		return "", strings.IndexByte(v.String(), 0) >= 0
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return withNUL(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			if path, found := withNUL(v.Index(i)); found {
				return "[" + strconv.Itoa(i) + "]" + path, true
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			_, inKey := withNUL(key)
			_, inValue := withNUL(v.MapIndex(key))
			if inKey || inValue {
				return "", true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if path, found := withNUL(v.Field(i)); found {
				return nameOf(v.Type().Field(i)) + path, true
			}
		}
	}
	return "", false
}

// nameOf gives a field's part of a path. An embedded struct has none of its own.
func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return ""
	}
	return "." + name
}
