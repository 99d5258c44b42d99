//go:build linux

package speccheck

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

func checkHooks(s *specs.Spec) error {
	if s.Hooks == nil {
		return nil
	}
	for _, kind := range []struct {
		name string
		list []specs.Hook
	}{
		//lint:ignore SA1019 deprecated, and supported
		{"prestart", s.Hooks.Prestart},
		{"createRuntime", s.Hooks.CreateRuntime},
		{"createContainer", s.Hooks.CreateContainer},
		{"startContainer", s.Hooks.StartContainer},
		{"poststart", s.Hooks.Poststart},
		{"poststop", s.Hooks.Poststop},
	} {
		for i, h := range kind.list {
			field := fmt.Sprintf("hooks.%s[%d]", kind.name, i)
			if err := absolute(field+".path", h.Path); err != nil {
				return err
			}
			if h.Timeout != nil && *h.Timeout <= 0 {
				return failure.Field(field+".timeout", "must be more than 0")
			}
		}
	}
	return nil
}

// checkAnnotations refuses keys that libcontainer, which keeps annotations as KEY=VALUE among labels of its own, would lose.
func checkAnnotations(s *specs.Spec) error {
	for key := range s.Annotations {
		if key == "" || key == "bundle" || strings.Contains(key, "=") {
			return failure.Field("annotations", "%.64q cannot be a key", key)
		}
	}
	return nil
}
