// Package speccheck refuses, by its name, what of an OCI runtime-spec the built-in runtime would otherwise ignore, or take for something else than it says.
//
// Check needs the spec only, Kernel also looks at the guest. What libcontainer and the kernel refuse by themselves is left to them. docs/oci-spec.md lists every field.
package speccheck
