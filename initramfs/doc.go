// Package initramfs makes the initial file system of a Bellhop guest: one
// cpio archive in the "newc" format with the agent as /init, the kernel modules
// that it loads and whatever files the caller adds.
//
// [Build] is the way in. It is deterministic: the same input gives the same
// bytes, whoever runs it, whenever and wherever. Names are sorted, inode numbers
// are counted, times are zero, and nothing else of the host leaks in.
//
// [Writer] is the archive format alone, for callers who lay out their own.
//
// In the guest the modules lie in [ModulesDir], and [ModuleListPath] names them
// in the order in which they must be loaded, one absolute path a line. Those that
// are loaded only on demand have lists of their own in [OnDemandDir]. Nothing
// like modules.dep is needed, neither here nor there: the order is computed
// from what each module says of itself.
package initramfs
