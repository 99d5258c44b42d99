package vsockdev

import "encoding/binary"

// headerSize is the size of struct virtio_vsock_hdr (VIRTIO 1.2, section 5.10.6).
const headerSize = 44

// typeStream is the only socket type that the device offers; it does not negotiate SEQPACKET.
const typeStream = 1

// Operations (VIRTIO 1.2, section 5.10.6).
const (
	opRequest       = 1
	opResponse      = 2
	opReset         = 3
	opShutdown      = 4
	opReadWrite     = 5
	opCreditUpdate  = 6
	opCreditRequest = 7
)

// Flags of opShutdown: what the sender of the packet will no longer do.
const (
	shutdownReceive = 1 << 0
	shutdownSend    = 1 << 1
	shutdownBoth    = shutdownReceive | shutdownSend
)

// header is struct virtio_vsock_hdr.
type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	length           uint32
	kind, op         uint16
	flags            uint32
	bufAlloc, fwdCnt uint32
}

// decode reads h from b, which holds at least headerSize bytes.
func (h *header) decode(b []byte) {
	le := binary.LittleEndian
	_ = b[headerSize-1]
	h.srcCID = le.Uint64(b[0:])
	h.dstCID = le.Uint64(b[8:])
	h.srcPort = le.Uint32(b[16:])
	h.dstPort = le.Uint32(b[20:])
	h.length = le.Uint32(b[24:])
	h.kind = le.Uint16(b[28:])
	h.op = le.Uint16(b[30:])
	h.flags = le.Uint32(b[32:])
	h.bufAlloc = le.Uint32(b[36:])
	h.fwdCnt = le.Uint32(b[40:])
}

// encode writes h to b, which has room for headerSize bytes.
func (h *header) encode(b []byte) {
	le := binary.LittleEndian
	_ = b[headerSize-1]
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.length)
	le.PutUint16(b[28:], h.kind)
	le.PutUint16(b[30:], h.op)
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.bufAlloc)
	le.PutUint32(b[40:], h.fwdCnt)
}
