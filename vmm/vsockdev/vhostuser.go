package vsockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Requests of the front end (vhost-user specification, "Front-end message types").
const (
	msgGetFeatures         = 1
	msgSetFeatures         = 2
	msgSetOwner            = 3
	msgResetOwner          = 4
	msgSetMemTable         = 5
	msgSetVringNum         = 8
	msgSetVringAddr        = 9
	msgSetVringBase        = 10
	msgGetVringBase        = 11
	msgSetVringKick        = 12
	msgSetVringCall        = 13
	msgSetVringErr         = 14
	msgGetProtocolFeatures = 15
	msgSetProtocolFeatures = 16
	msgGetQueueNum         = 17
	msgSetVringEnable      = 18
	msgGetConfig           = 24
	msgSetConfig           = 25
	msgResetDevice         = 34
)

// Feature bits that the device offers. It offers neither indirect descriptors nor event indexes, so drivers use neither,
// and no dirty log, so the monitor knows that it can't migrate the device.
const (
	featureVersion1         = 1 << 32
	featureProtocolFeatures = 1 << 30
	offeredFeatures         = featureVersion1 | featureProtocolFeatures

	protocolMQ          = 1 << 0 // without it QEMU takes the device to have one queue
	protocolReplyAck    = 1 << 3
	protocolConfig      = 1 << 9
	protocolResetDevice = 1 << 13
	offeredProtocol     = protocolMQ | protocolReplyAck | protocolConfig | protocolResetDevice
)

const (
	messageHeaderSize = 12
	maxMessagePayload = 4096 // far more than any message that is understood here

	messageVersion     = 1
	messageVersionMask = 3
	flagReply          = 1 << 2
	flagNeedReply      = 1 << 3

	vringIndexMask = 0xff
	vringNoFile    = 1 << 8

	numQueues = 2 // the event queue stays in the monitor
)

var errMessage = errors.New("invalid vhost-user message")

// message is a vhost-user message without its files.
type message struct {
	request uint32
	flags   uint32
	payload []byte
}

// parseMessageHeader returns the message that b, of messageHeaderSize bytes, begins, and the size of its payload.
func parseMessageHeader(b []byte) (m message, size int, err error) {
	le := binary.LittleEndian
	m = message{request: le.Uint32(b[0:]), flags: le.Uint32(b[4:])}
	n := le.Uint32(b[8:])
	if m.flags&messageVersionMask != messageVersion || m.flags&flagReply != 0 || n > maxMessagePayload {
		return m, 0, fmt.Errorf("%w: request %d, flags %#x, size %d", errMessage, m.request, m.flags, n)
	}
	return m, int(n), nil
}

// reply returns the answer to m.
func (m message) reply(payload []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, messageHeaderSize, messageHeaderSize+len(payload))
	le.PutUint32(b[0:], m.request)
	le.PutUint32(b[4:], messageVersion|flagReply)
	le.PutUint32(b[8:], uint32(len(payload)))
	return append(b, payload...)
}

// replyUint64 is reply with a number.
func (m message) replyUint64(v uint64) []byte {
	return m.reply(binary.LittleEndian.AppendUint64(nil, v))
}

func (m message) short() error {
	return fmt.Errorf("%w: request %d has %d bytes", errMessage, m.request, len(m.payload))
}

// uint64 returns a payload that is a number.
func (m message) uint64() (uint64, error) {
	if len(m.payload) < 8 {
		return 0, m.short()
	}
	return binary.LittleEndian.Uint64(m.payload), nil
}

// vringState returns a payload of a queue's index and a number.
func (m message) vringState() (index, num uint32, err error) {
	if len(m.payload) < 8 {
		return 0, 0, m.short()
	}
	return binary.LittleEndian.Uint32(m.payload), binary.LittleEndian.Uint32(m.payload[4:]), nil
}

// vringAddr returns a queue's index, and its addresses in s.
func (m message) vringAddr(s *ringSetup) (index uint32, err error) {
	if len(m.payload) < 40 {
		return 0, m.short()
	}
	le := binary.LittleEndian
	s.desc, s.used, s.avail = le.Uint64(m.payload[8:]), le.Uint64(m.payload[16:]), le.Uint64(m.payload[24:])
	return le.Uint32(m.payload), nil
}

// memTable returns the regions of a SET_MEM_TABLE message.
func (m message) memTable() ([]regionSpec, error) {
	const head, size = 8, 32
	if len(m.payload) < head {
		return nil, m.short()
	}
	le := binary.LittleEndian
	n := le.Uint32(m.payload)
	if n > maxRegions || len(m.payload) < head+size*int(n) {
		return nil, fmt.Errorf("%w: %d regions in %d bytes", errMessage, n, len(m.payload))
	}
	specs := make([]regionSpec, n)
	for i := range specs {
		b := m.payload[head+size*i:]
		specs[i] = regionSpec{guest: le.Uint64(b), size: le.Uint64(b[8:]), user: le.Uint64(b[16:]), offset: le.Uint64(b[24:])}
	}
	return specs, nil
}

// configReply answers GET_CONFIG from the device's configuration space, which is the guest's CID (VIRTIO 1.2, section
// 5.10.4). What lies outside is refused with an empty answer, as the specification says.
func (m message) configReply(guestCID uint64) ([]byte, error) {
	const head = 12
	if len(m.payload) < head {
		return nil, m.short()
	}
	le := binary.LittleEndian
	off, n := uint64(le.Uint32(m.payload)), uint64(le.Uint32(m.payload[4:]))
	space := le.AppendUint64(nil, guestCID)
	if off+n > uint64(len(space)) {
		return m.reply(nil), nil
	}
	return m.reply(append(m.payload[:head:head], space[off:off+n]...)), nil
}
