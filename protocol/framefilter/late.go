package framefilter

// Bounds on what the peer may send for streams that are gone.
const (
	// A peer that does not know yet may send an ACK, a FIN or RST, and a few window updates.
	lateFramesPerStream = 8
	// How many streams of the limit may be gone at once without the peer knowing: a host that opens and cancels goes on while the guest stands still.
	lateFramesFactor = 8
)

// lateAllowance is what the peer may still send for streams that are gone: frames that crossed their end. It is kept for all of them together, so
// that a dead stream needs no record, and it is capped, so that many honest streams do not save up for one flood.
type lateAllowance struct {
	bytes, maxBytes   int64 // in bodies of data frames
	frames, maxFrames int   // that have no body
}

func newLateAllowance(maxStreams int) lateAllowance {
	return lateAllowance{
		maxBytes:  int64(maxStreams) * initialWindow,
		maxFrames: maxStreams * lateFramesPerStream * lateFramesFactor,
	}
}

// add notes a stream that is gone, on which the peer had a window of granted bytes left.
func (l *lateAllowance) add(granted uint32) {
	l.bytes = min(l.maxBytes, l.bytes+int64(granted))
	l.frames = min(l.maxFrames, l.frames+lateFramesPerStream)
}

// take accounts for a frame that came late. It returns why the frame is refused, or "".
func (l *lateAllowance) take(h header) (refusal string) {
	if size := int64(h.bodySize()); size > 0 {
		if size > l.bytes {
			return "too much data for closed streams"
		}
		l.bytes -= size
		return ""
	}
	if l.frames == 0 {
		return "too many frames for closed streams"
	}
	l.frames--
	return ""
}
