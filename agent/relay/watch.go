//go:build linux

package relay

// beginWatch is the timer's function.
func (o *output) beginWatch() {
	defer o.set.wg.Done()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timer.fired()
	if !o.idle || o.ln == nil || o.closed || o.watch {
		return
	}
	if o.snd.Next()-o.idleAt >= busyBytes { // it only pauses
		o.beIdle()
		return
	}
	if o.src != nil && !o.srcEOF {
		o.src.reduce()
	}
	o.watch = true
	o.set.wg.Add(1)
	go o.watchAcks()
}

// watchAcks reads acks until pump is busy again, or the connection is over.
func (o *output) watchAcks() {
	defer o.set.wg.Done()
	o.mu.Lock()
	defer o.unlock()
	ln := o.ln
	if ln == nil || o.watching {
		o.watch = false
		return
	}
	o.watching = true
	o.unlock()
	_ = ln.whenReadable(func(uintptr) bool { return o.locked(func() bool { return o.watchReady(ln) }) })
	o.mu.Lock()
	o.watch, o.watching = false, false
	o.cond.Broadcast()
	if o.idle {
		o.beIdle() // for the next connection, if there is one already
	}
}

func (o *output) watchReady(ln link) bool {
	if o.ln == ln {
		o.takeAllAcks()
	}
	return o.ln != ln || !o.idle
}
