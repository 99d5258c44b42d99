// Package vsockdev is a virtio-vsock device in user space.
//
// A virtual machine whose monitor speaks vhost-user (QEMU's vhost-user-vsock-pci) gets working AF_VSOCK sockets from it
// without any privilege on the host: no KVM, no /dev/vhost-vsock, no kernel module and no CID to allocate.
//
// Start with New, give the file of TakeSocket to QEMU, and use Dial and Listen, which work like those of package net.
// Connections are net.Conns in memory: one copy between guest memory and the caller's slice, and no socket in between.
// ServeHybrid offers the same device to other programs as unix sockets in the form that Firecracker and Cloud Hypervisor use.
//
// The guest is not trusted. What it puts into its memory, rings and packets can at worst end its own connections: it
// cannot crash the host, hold up connections that behave, or make the host keep more unread data than about
// Config.ReceiveBuffer bytes for each of Config.MaxConnections connections and of the 128 that wait in each listener.
//
// Lock order inside the package: rings, then connection, then device.
//
//	receiver.mu (guest→host ring)
//	  sender.mu (host→guest ring)
//	    Conn.mu
//	      Device.mu, Listener.mu
//
// The front end's goroutine takes both ring locks to change the memory map, so whoever holds a ring lock may touch guest memory.
//
// References: Virtual I/O Device (VIRTIO) 1.2, sections 2.7 (split virtqueues) and 5.10 (socket device); QEMU's
// docs/interop/vhost-user.rst.
package vsockdev
