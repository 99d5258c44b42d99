package vsockdev

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// Golden vectors of what goes over the wire and into guest memory.

func TestHeaderVector(t *testing.T) {
	const want = "0200000000000000" + "0300000000000000" + "0004000a" + "e8030000" + "00010000" +
		"0100" + "0500" + "03000000" + "00000400" + "78563412"
	h := header{
		srcCID: 2, dstCID: 3, srcPort: 0x0a000400, dstPort: 1000, length: 256,
		kind: typeStream, op: opReadWrite, flags: 3, bufAlloc: 256 << 10, fwdCnt: 0x12345678,
	}
	var b [headerSize]byte
	h.encode(b[:])
	if got := hex.EncodeToString(b[:]); got != want {
		t.Errorf("encode = %s; want %s", got, want)
	}
	var back header
	if back.decode(b[:]); back != h {
		t.Errorf("decode = %+v; want %+v", back, h)
	}
}

func TestAnswerVectors(t *testing.T) {
	g := newFakeFrontend(t, &Config{GuestCID: 77})
	tests := []struct {
		name    string
		request uint32
		flags   uint32
		payload []byte
		want    string
	}{
		{"GET_FEATURES", msgGetFeatures, 0, nil, "0000004001000000"},
		{"GET_PROTOCOL_FEATURES", msgGetProtocolFeatures, 0, nil, "0922000000000000"},
		{"GET_QUEUE_NUM", msgGetQueueNum, 0, nil, "0200000000000000"},
		{"GET_CONFIG", msgGetConfig, 0, append(u32s(0, 8, 0), make([]byte, 8)...), "000000000800000000000000" + "4d00000000000000"},
		{"GET_CONFIG, part", msgGetConfig, 0, append(u32s(0, 1, 0), 0), "000000000100000000000000" + "4d"},
		{"GET_CONFIG, outside", msgGetConfig, 0, append(u32s(4, 8, 0), make([]byte, 8)...), ""},
		{"GET_CONFIG, overflow", msgGetConfig, 0, append(u32s(^uint32(0), ^uint32(0), 0), make([]byte, 8)...), ""},
		{"SET_OWNER", msgSetOwner, flagNeedReply, nil, "0000000000000000"},
		{"unknown", 99, flagNeedReply, nil, "0100000000000000"},
		{"GET_VRING_BASE of a stopped queue", msgGetVringBase, 0, u32s(1, 0), "0100000000000000"},
	}
	for _, tt := range tests {
		if got := hex.EncodeToString(g.ask(tt.request, tt.flags, tt.payload)); got != tt.want {
			t.Errorf("%s = %s; want %s", tt.name, got, tt.want)
		}
	}
}

// TestHostileFrontend: a front end that breaks the protocol ends the device, and nothing else.
func TestHostileFrontend(t *testing.T) {
	region := func(guest, size, user, offset uint64) []byte {
		b := u32s(1, 0)
		for _, v := range []uint64{guest, size, user, offset} {
			b = append(b, u64(v)...)
		}
		return b
	}
	tests := []struct {
		name    string
		request uint32
		flags   uint32
		payload []byte
		files   int
		want    string
	}{
		{"version 2", msgGetFeatures, 2 ^ messageVersion, nil, 0, "invalid vhost-user message"},
		{"an answer", msgGetFeatures, flagReply, nil, 0, "invalid vhost-user message"},
		{"short features", msgSetFeatures, 0, make([]byte, 7), 0, "7 bytes"},
		{"feature not offered", msgSetFeatures, 0, u64(1 << 28), 0, "not offered"},
		{"short state", msgSetVringNum, 0, make([]byte, 7), 0, "7 bytes"},
		{"short address", msgSetVringAddr, 0, make([]byte, 39), 0, "39 bytes"},
		{"short config", msgGetConfig, 0, make([]byte, 11), 0, "11 bytes"},
		{"no such queue", msgSetVringNum, 0, u32s(2, 64), 0, "queue 2"},
		{"no such queue for a file", msgSetVringKick, 0, u64(2), 1, "queue 2"},
		{"no such queue to stop", msgGetVringBase, 0, u32s(7, 0), 0, "queue 7"},
		{"kick by polling", msgSetVringKick, 0, u64(vringNoFile), 0, "without a kick file"},
		{"no file", msgSetVringCall, 0, u64(0), 0, "0 files"},
		{"two files", msgSetVringCall, 0, u64(0), 2, "2 files"},
		{"nine regions", msgSetMemTable, 0, append(u32s(9, 0), make([]byte, 9*32)...), 1, "9 regions"},
		{"region that is not there", msgSetMemTable, 0, u32s(1, 0), 1, "1 regions in 8 bytes"},
		{"region without a file", msgSetMemTable, 0, memTable(), 0, "1 regions and 0 files"},
		{"empty region", msgSetMemTable, 0, region(0, 0, 0, 0), 1, "out of range"},
		{"region beyond the file", msgSetMemTable, 0, region(0, fakeMemory, 0, 4096), 1, "out of range"},
		{"region that overflows", msgSetMemTable, 0, region(0, 4096, 0, ^uint64(0)), 1, "out of range"},
		{"huge region", msgSetMemTable, 0, region(0, 1<<63, 0, 0), 1, "out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newFakeFrontend(t, nil)
			l := g.listen()
			files := make([]int, tt.files)
			for i := range files {
				files[i] = g.memFD
			}
			g.must(g.tell(tt.request, tt.flags, tt.payload, files...))
			if _, err := l.Accept(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the device ended with %v; want %q", err, tt.want)
			}
		})
	}
}

// TestRingOutOfMemory: rings that are not in memory are not started; the next good set-up is.
func TestRingOutOfMemory(t *testing.T) {
	g := newFakeGuest(t, nil)
	for _, at := range []uint64{fakeMemory - 64, fakeMemory, 1 << 60, 2} {
		g.ask(msgGetVringBase, 0, u32s(0, 0))
		addr := u32s(0, 0)
		for _, v := range []uint64{fakeUserAt + at, fakeUserAt + at, fakeUserAt + at, 0} {
			addr = append(addr, u64(v)...)
		}
		g.must(g.tell(msgSetVringAddr, 0, addr))
		g.must(g.tell(msgSetVringKick, 0, u64(0), fdOf(g.rx.kick)))
		g.ask(msgSetVringEnable, flagNeedReply, u32s(0, 1))
		if _, err := g.dev.Dial(t.Context(), 1); !errors.Is(err, ErrNotReady) {
			t.Errorf("ring at %#x: Dial = %v; want ErrNotReady", at, err)
		}
	}
	g.restart()
	g.checkAlive()
}

// FuzzFrontend sends any bytes as the monitor, with files. The device must end or go on, and Close must return.
func FuzzFrontend(f *testing.F) {
	message := func(request uint32, payload []byte) []byte {
		b := u32s(request, messageVersion|flagNeedReply, uint32(len(payload)))
		return append(b, payload...)
	}
	f.Add(message(msgGetFeatures, nil), uint8(0))
	f.Add(message(msgSetMemTable, memTable()), uint8(1))
	f.Add(message(msgSetVringKick, u64(0)), uint8(1))
	f.Add(append(message(msgSetVringNum, u32s(0, 64)), message(msgGetVringBase, u32s(0, 0))...), uint8(0))
	f.Add(message(msgGetConfig, append(u32s(0, 8, 0), make([]byte, 8)...)), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, files uint8) {
		g := newFakeFrontend(t, nil)
		fds := bytes.Repeat([]byte{0}, int(files%10))
		rights := make([]int, len(fds))
		for i := range rights {
			rights[i] = g.memFD
		}
		if len(b) < messageHeaderSize {
			b = append(b, make([]byte, messageHeaderSize-len(b))...)
		}
		le := binary.LittleEndian
		g.conn.SetWriteDeadline(time.Now().Add(fakeTimeout))
		g.tell(le.Uint32(b), le.Uint32(b[4:]), b[messageHeaderSize:], rights...)
		g.conn.Write(b)
		if err := g.dev.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("Close() = %v; want nil", err)
		}
	})
}
