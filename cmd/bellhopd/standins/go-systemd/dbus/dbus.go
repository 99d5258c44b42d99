// Package dbus has the names of github.com/coreos/go-systemd/v22/dbus that
// libcontainer uses, and no systemd: see the README above this directory.
package dbus

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"
)

var errNotBuilt = errors.New("systemd's D-Bus interface is not built into this agent")

// Property is a unit's property.
type Property struct {
	Name  string
	Value dbus.Variant
}

// PropSlice returns no property.
func PropSlice(string) Property { return Property{} }

// PropWants returns no property.
func PropWants(...string) Property { return Property{} }

// PropDescription returns no property.
func PropDescription(string) Property { return Property{} }

// Conn cannot be made.
type Conn struct{}

// NewWithContext fails.
func NewWithContext(context.Context) (*Conn, error) { return nil, errNotBuilt }

// NewSystemdConnectionContext fails.
func NewSystemdConnectionContext(context.Context) (*Conn, error) { return nil, errNotBuilt }

// NewConnection fails.
func NewConnection(func() (*dbus.Conn, error)) (*Conn, error) { return nil, errNotBuilt }

// Close does nothing.
func (*Conn) Close() {}

// StartTransientUnitContext fails.
func (*Conn) StartTransientUnitContext(context.Context, string, string, []Property, chan<- string) (int, error) {
	return 0, errNotBuilt
}

// StopUnitContext fails.
func (*Conn) StopUnitContext(context.Context, string, string, chan<- string) (int, error) {
	return 0, errNotBuilt
}

// ResetFailedUnitContext fails.
func (*Conn) ResetFailedUnitContext(context.Context, string) error { return errNotBuilt }

// SetUnitPropertiesContext fails.
func (*Conn) SetUnitPropertiesContext(context.Context, string, bool, ...Property) error {
	return errNotBuilt
}

// GetUnitTypePropertyContext fails.
func (*Conn) GetUnitTypePropertyContext(context.Context, string, string, string) (*Property, error) {
	return nil, errNotBuilt
}

// GetManagerProperty fails.
func (*Conn) GetManagerProperty(string) (string, error) { return "", errNotBuilt }

// AttachProcessesToUnit fails.
func (*Conn) AttachProcessesToUnit(context.Context, string, string, []uint32) error {
	return errNotBuilt
}
