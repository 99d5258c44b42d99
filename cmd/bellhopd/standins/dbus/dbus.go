// Package dbus has the names of github.com/godbus/dbus/v5 that libcontainer
// uses, and no D-Bus: see the README above this directory.
package dbus

import "errors"

// ErrClosed is never returned.
var ErrClosed = errors.New("dbus: connection closed")

var errNotBuilt = errors.New("D-Bus is not built into this agent")

// Error is never returned.
type Error struct {
	Name string
	Body []any
}

func (e Error) Error() string { return e.Name }

// Auth is a method of authentication; there are none.
type Auth any

// AuthExternal returns no Auth.
func AuthExternal(string) Auth { return nil }

// ConnOption does nothing.
type ConnOption func(*Conn)

// Conn cannot be made.
type Conn struct{}

// Dial fails.
func Dial(string, ...ConnOption) (*Conn, error) { return nil, errNotBuilt }

// EscapeBusAddressValue returns value.
func EscapeBusAddressValue(value string) string { return value }

// Auth fails.
func (*Conn) Auth([]Auth) error { return errNotBuilt }

// Hello fails.
func (*Conn) Hello() error { return errNotBuilt }

// Close does nothing.
func (*Conn) Close() error { return nil }

// Signature is empty.
type Signature struct{}

// Empty is true.
func (Signature) Empty() bool { return true }

func (Signature) String() string { return "" }

// Variant holds a value that goes nowhere.
type Variant struct{ value any }

// MakeVariant returns a Variant of value.
func MakeVariant(value any) Variant { return Variant{value} }

// ParseVariant fails: a spec with org.systemd.property annotations is refused.
func ParseVariant(string, Signature) (Variant, error) { return Variant{}, errNotBuilt }

// Value returns what the Variant was made of.
func (v Variant) Value() any { return v.value }

// Signature returns an empty one.
func (Variant) Signature() Signature { return Signature{} }

func (Variant) String() string { return "" }
