package loopback

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// TestInGuestStranger has the only CID there is dial a host's listener: where another guest is awaited it is a stranger, whose connections are closed, and of which Accept says nothing.
func TestInGuestStranger(t *testing.T) {
	needGuest(t)
	const awaited = 42
	for guest, welcome := range map[uint32]bool{cidLocal: true, awaited: false, cidLocal + 1: false, cidLocal + 2: false} {
		l, err := hostclient.Vsock(guest).Listen(port)
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_, err = io.WriteString(conn, "welcome")
				conn.Close()
			}
			accepted <- err
		}()
		for range 3 {
			got := visit(t)
			if (got == "welcome") != welcome {
				t.Errorf("CID %d is told %q where CID %d is awaited; want it welcome: %v", cidLocal, got, guest, welcome)
			}
			if got != "" {
				break // nobody accepts another
			}
		}
		l.Close()
		if err := <-accepted; welcome && err != nil || !welcome && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept() with CID %d awaited = %v; want a connection: %v", guest, err, welcome)
		}
	}
}

// visit dials the port and reads until the connection is closed.
func visit(t *testing.T) string {
	t.Helper()
	conn, err := hostclient.Vsock(cidLocal).Dial(t.Context(), port)
	if err != nil {
		t.Fatalf("Dial() = %v; want no error", err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	said, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is left open")
	}
	return string(said)
}
