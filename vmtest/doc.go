// Package vmtest gives a Go test a virtual machine with a connected client:
//
//	func TestUname(t *testing.T) {
//		vm := vmtest.Start(t, vmtest.Busybox())
//		out, err := vm.Client.Command(t.Context(), vmtest.Rootfs+"/bin/busybox", "uname", "-r").Output() // and so on
//	}
//
// The machine ends with the test. When the test fails, its log has the end of the machine's console and the QEMU command line that reproduces it. Tests
// share a machine by being subtests of one test.
//
// It needs QEMU, a kernel and a built agent (`make build`); where one is missing the test fails with a line that says how to get it. No KVM and no
// privilege are needed.
package vmtest
