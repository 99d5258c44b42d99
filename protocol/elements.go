package protocol

import (
	"encoding/binary"
	"fmt"
)

// maxElements bounds the elements of the repeated message fields of one control message, all together. It is checked before the payload is decoded: an
// empty element takes two bytes on the wire and more than a hundred in memory. (An empty string takes 16, a number at most 4; these need no bound of their
// own.)
const maxElements = 32 << 10

// elements says which fields of a message lead to repeated messages: its keys are their numbers, its values say the same of the messages in them.
type elements map[uint64]field

// field is a field that holds messages.
type field struct {
	repeated bool
	inner    elements
}

var (
	outputElements  = elements{4: {repeated: true}}                        // Output.holders
	drainedElements = elements{2: {repeated: true, inner: outputElements}} // Drained.outputs
	processElements = elements{7: {repeated: true}}                        // ProcessInfo.streams

	responseElements = elements{
		6:  {inner: drainedElements},
		10: {inner: elements{1: {repeated: true}}},                         // Deleted.survivors
		11: {inner: elements{1: {repeated: true, inner: processElements}}}, // Listed.processes
		12: {inner: elements{1: {repeated: true}}},                         // Attached.streams
		14: {inner: elements{
			1: {inner: processElements},
			4: {inner: elements{2: {inner: drainedElements}}}, // DrainedEvent.drained
		}},
		22: {inner: elements{1: {repeated: true, inner: elements{ // StatisticsPart.containers
			7: {repeated: true}, 11: {repeated: true}, 12: {repeated: true}, // ContainerStatistics.io, hugetlb, networks
		}}}},
		25: {inner: elements{1: {repeated: true}}}, // RootfsListed.rootfs
	}

	requestElements = elements{
		3: {inner: elements{
			3: {inner: elements{2: {repeated: true}, 3: {repeated: true}}},  // Container.files, share
			4: {inner: elements{2: {inner: elements{7: {repeated: true}}}}}, // Exec.process, Process.rlimits
			5: {repeated: true},                                             // Create.stdio
		}},
		11: {inner: elements{2: {repeated: true}}}, // Attach.streams
		12: {inner: elements{2: {repeated: true}}}, // Detach.streams
		22: {inner: elements{4: {repeated: true}}}, // PrepareRootfs.layers
	}
)

// check returns an error that wraps ErrProtocol if the payload has more than maxElements elements, or is not protobuf.
func (e elements) check(payload []byte) error {
	left := maxElements
	return e.count(payload, &left)
}

func (e elements) count(b []byte, left *int) error {
	for len(b) > 0 {
		number, body, rest, err := nextField(b)
		if err != nil {
			return err
		}
		b = rest
		f, ok := e[number]
		if !ok {
			continue
		}
		if f.repeated {
			*left--
		}
		if *left < 0 {
			return fmt.Errorf("%w: message with more than %d elements", ErrProtocol, maxElements)
		}
		if err := f.inner.count(body, left); err != nil {
			return err
		}
	}
	return nil
}

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// nextField splits off the first field of an encoded message. The body is empty for other types than bytes. What it does not know (groups, too long a
// varint) is an error, so that it cannot read a payload differently from the decoder behind it.
func nextField(b []byte) (number uint64, body, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag > 1<<32-1 {
		return 0, nil, nil, errMalformed("tag")
	}
	b = b[n:]
	var skip uint64
	switch tag & 7 {
	case wireVarint:
		_, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, nil, nil, errMalformed("number")
		}
		skip = uint64(n)
	case wireFixed64:
		skip = 8
	case wireFixed32:
		skip = 4
	case wireBytes:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return 0, nil, nil, errMalformed("length")
		}
		return tag >> 3, b[n:][:size], b[n:][size:], nil
	default:
		return 0, nil, nil, errMalformed("type")
	}
	if skip > uint64(len(b)) {
		return 0, nil, nil, errMalformed("end")
	}
	return tag >> 3, nil, b[skip:], nil
}

func errMalformed(what string) error {
	return fmt.Errorf("%w: payload is not protobuf (%s of a field)", ErrProtocol, what)
}
