//go:build linux

package vmm

import (
	"bytes"
	"testing"
	"time"
)

// watcher is a Console that tells when a text has come.
type watcher struct {
	text []byte
	seen bytes.Buffer
	done chan struct{}
}

func newWatcher(text string) *watcher {
	return &watcher{text: []byte(text), done: make(chan struct{})}
}

func (w *watcher) Write(p []byte) (int, error) {
	before := bytes.Contains(w.seen.Bytes(), w.text)
	w.seen.Write(p)
	if !before && bytes.Contains(w.seen.Bytes(), w.text) {
		close(w.done)
	}
	return len(p), nil
}

func (w *watcher) wait(t *testing.T) { waitFor(t, w.done) }

// counter is a Console that tells when so many bytes have come.
type counter struct {
	left int
	done chan struct{}
}

func newCounter(n int) *counter { return &counter{left: n, done: make(chan struct{})} }

func (c *counter) Write(p []byte) (int, error) {
	if c.left > 0 && c.left <= len(p) {
		close(c.done)
	}
	c.left -= len(p)
	return len(p), nil
}

func (c *counter) wait(t *testing.T) { waitFor(t, c.done) }

func waitFor(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(testTimeout):
		t.Fatalf("the guest did not come so far within %v", testTimeout)
	}
}

// stuckWriter blocks in its first Write until it is released.
type stuckWriter struct {
	entered chan struct{}
	release chan struct{}
}

func (w stuckWriter) Write(p []byte) (int, error) {
	select {
	case w.entered <- struct{}{}:
	default:
	}
	<-w.release
	return len(p), nil
}
