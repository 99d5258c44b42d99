package protocol

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// CheckID returns an error that wraps errdefs.ErrInvalidArgument unless id matches [A-Za-z0-9][A-Za-z0-9_.-]{0,127}.
func CheckID(id string) error {
	if len(id) == 0 || len(id) > MaxIDLength {
		return fmt.Errorf("id of %d characters, must have 1 to %d: %w", len(id), MaxIDLength, errdefs.ErrInvalidArgument)
	}
	for i, c := range []byte(id) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return fmt.Errorf("id %q has %q at %d, must match [A-Za-z0-9][A-Za-z0-9_.-]*: %w", id, c, i, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
