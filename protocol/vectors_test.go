package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// readVectors reads a file of testdata, whose README.md says the format.
func readVectors(t testing.TB, file string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	vectors := make(map[string][]byte)
	name := ""
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			name = strings.Trim(line, "[]")
			if _, twice := vectors[name]; twice {
				t.Fatalf("%s: vector %q twice", file, name)
			}
			vectors[name] = []byte{}
			continue
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(line), ""))
		if err != nil {
			t.Fatalf("%s: vector %q: %v", file, name, err)
		}
		if len(b) > 0 {
			vectors[name] = append(vectors[name], b...)
		}
	}
	return vectors
}

// sameNames checks that the file and the test's table have the same vectors.
func sameNames(t *testing.T, file string, vectors map[string][]byte, table []string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(vectors))
	want := slices.Sorted(slices.Values(table))
	if !slices.Equal(got, want) {
		t.Errorf("%s has vectors %q; the test knows %q", file, got, want)
	}
}

func names[V any](table []V, name func(V) string) []string {
	var all []string
	for _, v := range table {
		all = append(all, name(v))
	}
	return all
}

type helloVector struct {
	name  string
	hello *pb.Hello
}

var instance = []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

var helloVectors = []helloVector{
	{"empty", &pb.Hello{}},
	{"agent", &pb.Hello{
		Software: "bellhopd 0.1.0", Instance: instance, Features: []string{"a", "b"},
		Limits: &pb.Limits{MaxMessage: 1 << 20, MaxStreams: 256, MaxChunk: 1 << 20},
	}},
}

func TestHelloVectors(t *testing.T) {
	vectors := readVectors(t, "hello.txt")
	sameNames(t, "hello.txt", vectors, names(helloVectors, func(v helloVector) string { return v.name }))
	for _, v := range helloVectors {
		var b bytes.Buffer
		if err := WriteHello(&b, v.hello); err != nil || !bytes.Equal(b.Bytes(), vectors[v.name]) {
			t.Errorf("%s: WriteHello() = %x, %v; want %x", v.name, b.Bytes(), err, vectors[v.name])
		}
		got, err := ReadHello(bytes.NewReader(vectors[v.name]))
		if err != nil || !got.EqualVT(v.hello) {
			t.Errorf("%s: ReadHello() = %+v, %v; want %+v", v.name, got, err, v.hello)
		}
	}
}

type messageVector struct {
	name    string
	kind    Kind
	message Message
}

var messageVectors = []messageVector{
	{"request without an operation", KindRequest, &pb.Request{}},
	{"ping", KindRequest, &pb.Request{Op: &pb.Request_Ping{Ping: &pb.Ping{}}}},
	{"pong", KindResult, &pb.Response{What: &pb.Response_Pong{Pong: &pb.Pong{}}}},
	{"kill", KindRequest, &pb.Request{Op: &pb.Request_Kill{Kill: &pb.Kill{RequestId: instance, Id: "web", Signal: 15, All: true}}}},
	{"pause", KindRequest, &pb.Request{Op: &pb.Request_Pause{Pause: &pb.Pause{RequestId: instance, Id: "web"}}}},
	{"paused", KindResult, &pb.Response{What: &pb.Response_Paused{Paused: &pb.Paused{}}}},
	{"watch for losses", KindRequest, &pb.Request{Op: &pb.Request_Watch{Watch: &pb.Watch{LossesOnly: true}}}},
	{"create exec", KindRequest, &pb.Request{Op: &pb.Request_Create{Create: &pb.Create{
		RequestId: instance, Id: "job-1", Start: true, Wait: true,
		What: &pb.Create_Exec{Exec: &pb.Exec{Container: "web", Process: &pb.Process{
			Args: []string{"cat", ""}, Env: []string{"A=1"}, Cwd: "/",
			User:        &pb.User{Uid: 1000, Gid: 1000, AdditionalGids: []uint32{4, 300}},
			OomScoreAdj: new(int32),
		}}},
		Stdio: []*pb.Stdio{{Stream: pb.Stream_STREAM_STDOUT, Port: 5000, Token: bytes.Repeat([]byte{0xab}, TokenSize), RingBytes: 4096}},
	}}}},
	{"create container with a file", KindRequest, &pb.Request{Op: &pb.Request_Create{Create: &pb.Create{
		Id: "web", What: &pb.Create_Container{Container: &pb.Container{
			Spec: []byte("{}"), Files: []*pb.File{{Path: "/etc/hosts", Content: []byte("x"), Mode: 0o600, Uid: 1000, Gid: 1}},
		}},
	}}}},
	{"prepare rootfs of layers", KindRequest, &pb.Request{Op: &pb.Request_PrepareRootfs{PrepareRootfs: &pb.PrepareRootfs{
		RequestId: instance, Id: "web", Layers: []*pb.FileSystem{{Source: "/base"}, {Source: "/dev/vda", Type: "erofs", Options: []string{"nodev"}}},
		Upper: &pb.Upper{Disk: &pb.FileSystem{Source: "/up"}, Limit: 1 << 20},
	}}}},
	{"prepare rootfs of a whole", KindRequest, &pb.Request{Op: &pb.Request_PrepareRootfs{PrepareRootfs: &pb.PrepareRootfs{
		RequestId: instance, Id: "web", Whole: &pb.FileSystem{Source: "/base"},
	}}}},
	{"rootfs prepared", KindResult, &pb.Response{What: &pb.Response_RootfsPrepared{RootfsPrepared: &pb.RootfsPrepared{Path: "/r/web"}}}},
	{"remove rootfs", KindRequest, &pb.Request{Op: &pb.Request_RemoveRootfs{RemoveRootfs: &pb.RemoveRootfs{RequestId: instance, Id: "web"}}}},
	{"rootfs removed", KindResult, &pb.Response{What: &pb.Response_RootfsRemoved{RootfsRemoved: &pb.RootfsRemoved{}}}},
	{"list rootfs", KindRequest, &pb.Request{Op: &pb.Request_ListRootfs{ListRootfs: &pb.ListRootfs{}}}},
	{"rootfs listed", KindResult, &pb.Response{What: &pb.Response_RootfsListed{RootfsListed: &pb.RootfsListed{
		Rootfs: []*pb.RootfsInfo{{Id: "web", Path: "/r/web", Containers: 2}},
	}}}},
	{"create container of a pod", KindRequest, &pb.Request{Op: &pb.Request_Create{Create: &pb.Create{
		Id: "web", AwayTimeoutMs: 60_000,
		What: &pb.Create_Container{Container: &pb.Container{
			Spec: []byte("{}"), Share: []*pb.Share{{Type: "network", Container: "pod"}}, BuiltIn: pb.BuiltIn_BUILT_IN_INIT,
		}},
	}}}},
	{"update", KindRequest, &pb.Request{Op: &pb.Request_Update{Update: &pb.Update{Id: "web", Resources: []byte(`{"cpu":{"shares":512}}`)}}}},
	{"statistics", KindRequest, &pb.Request{Op: &pb.Request_Statistics{Statistics: &pb.Statistics{Ids: []string{"web"}}}}},
	{"statistics part", KindResult, &pb.Response{What: &pb.Response_Statistics{Statistics: &pb.StatisticsPart{
		Containers: []*pb.ContainerStatistics{{
			Id: "web", ReadAt: 1_700_000_000_000_000_000, Cpu: &pb.CPUStatistics{Usage: 300}, Pids: 2, PidsLimit: 1<<64 - 1,
		}},
	}}}},
	{"dialing", KindProgress, &pb.Response{What: &pb.Response_Dialing{Dialing: &pb.Dialing{}}}},
	{"started", KindProgress, &pb.Response{What: &pb.Response_Started{Started: &pb.Started{Pid: 42, StartedAt: 1_700_000_000_000_000_000}}}},
	{"drained", KindResult, &pb.Response{What: &pb.Response_Drained{Drained: &pb.Drained{
		Exited: &pb.Exited{Signal: 9, StartedAt: 1, ExitedAt: 2},
		Outputs: []*pb.Output{{
			Stream: pb.Stream_STREAM_STDOUT, Length: 1 << 40,
			Holders: []*pb.Holder{{Pid: 7, ContainerPid: 2, Name: "sleep"}},
		}},
	}}}},
	{"not found", KindError, &pb.Error{
		Code: pb.Code_CODE_NOT_FOUND, Message: "no such file or directory", Steps: []string{"start process web", "exec /bin/nope"}, LinuxErrno: 2,
	}},
	{"out of range", KindError, &pb.Error{
		Code: pb.Code_CODE_OUT_OF_RANGE, Message: "the offset is not kept", Range: &pb.Range{First: 10, Next: 1 << 20},
		Stream: &pb.StreamRef{Stream: pb.Stream_STREAM_STDERR}, Generation: 3,
	}},
}

func TestMessageVectors(t *testing.T) {
	vectors := readVectors(t, "messages.txt")
	sameNames(t, "messages.txt", vectors, names(messageVectors, func(v messageVector) string { return v.name }))
	for _, v := range messageVectors {
		var b bytes.Buffer
		if err := WriteMessage(&b, MaxMessage, v.kind, v.message); err != nil || !bytes.Equal(b.Bytes(), vectors[v.name]) {
			t.Errorf("%s: WriteMessage() = %x, %v; want %x", v.name, b.Bytes(), err, vectors[v.name])
		}
		kind, got, err := readAny(vectors[v.name])
		if err != nil || kind != v.kind || !equal(got, v.message) {
			t.Errorf("%s: read %d, %+v, %v; want %d, %+v", v.name, kind, got, err, v.kind, v.message)
		}
	}
}

// readAny reads the message that is the whole of b, whoever may send it.
func readAny(b []byte) (Kind, Message, error) {
	r := bytes.NewReader(b)
	if len(b) >= MessageHeaderSize && Kind(b[4]) == KindRequest {
		req, err := ReadRequest(r, MaxMessage)
		return KindRequest, req, err
	}
	kind, resp, err := ReadResponse(r, MaxMessage)
	if se, ok := errors.AsType[*StatusError](err); ok {
		return kind, se.PB, nil
	}
	return kind, resp, err
}

func equal(a, b Message) bool {
	switch a := a.(type) {
	case *pb.Request:
		b, ok := b.(*pb.Request)
		return ok && a.EqualVT(b)
	case *pb.Response:
		b, ok := b.(*pb.Response)
		return ok && a.EqualVT(b)
	case *pb.Error:
		b, ok := b.(*pb.Error)
		return ok && a.EqualVT(b)
	}
	return false
}

type preambleVector struct {
	name     string
	preamble Preamble
}

var token = Token(slices.Repeat([]byte{0xab, 0xcd}, TokenSize/2))

var preambleVectors = []preambleVector{
	{"stdin", Preamble{Stream: pb.Stream_STREAM_STDIN, Generation: 1, Token: token}},
	{"stdout resumed", Preamble{Stream: pb.Stream_STREAM_STDOUT, Generation: 7, Token: token, Offset: 0x0123456789abcdef}},
	{"stderr direct", Preamble{Stream: pb.Stream_STREAM_STDERR, Mode: pb.StdioMode_STDIO_MODE_DIRECT, Generation: 1, Token: token}},
	{"greatest numbers", Preamble{Generation: 1<<32 - 1, Offset: 1<<64 - 1}},
}

func TestPreambleVectors(t *testing.T) {
	preambles, accepts := readVectors(t, "preamble.txt"), readVectors(t, "accept.txt")
	for file, vectors := range map[string]map[string][]byte{"preamble.txt": preambles, "accept.txt": accepts} {
		sameNames(t, file, vectors, names(preambleVectors, func(v preambleVector) string { return v.name }))
	}
	for _, v := range preambleVectors {
		var b bytes.Buffer
		if err := WritePreamble(&b, v.preamble); err != nil || !bytes.Equal(b.Bytes(), preambles[v.name]) {
			t.Errorf("%s: WritePreamble() = %x, %v; want %x", v.name, b.Bytes(), err, preambles[v.name])
		}
		if got, err := ReadPreamble(bytes.NewReader(preambles[v.name])); err != nil || got != v.preamble {
			t.Errorf("%s: ReadPreamble() = %+v, %v; want %+v", v.name, got, err, v.preamble)
		}
		b.Reset()
		if err := WriteAccept(&b, v.preamble); err != nil || !bytes.Equal(b.Bytes(), accepts[v.name]) {
			t.Errorf("%s: WriteAccept() = %x, %v; want %x", v.name, b.Bytes(), err, accepts[v.name])
		}
		if err := ReadAccept(bytes.NewReader(accepts[v.name]), v.preamble); err != nil {
			t.Errorf("%s: ReadAccept() = %v; want nil", v.name, err)
		}
	}
}

type recordVector struct {
	name   string
	record Record
}

var recordVectors = []recordVector{
	{"ack", Record{Type: RecordAck, Offset: 128 << 10}},
	{"end-acked", Record{Type: RecordEndAcked, Offset: 1<<64 - 1}},
	{"stop closed", Record{Type: RecordStop, Reason: StopClosed, Offset: 5}},
	{"stop writer failed", Record{Type: RecordStop, Reason: StopWriterFailed}},
	{"stop detached", Record{Type: RecordStop, Reason: StopDetached, Offset: 1}},
}

func TestRecordVectors(t *testing.T) {
	vectors := readVectors(t, "records.txt")
	sameNames(t, "records.txt", vectors, names(recordVectors, func(v recordVector) string { return v.name }))
	for _, v := range recordVectors {
		if got := v.record.Append(nil); !bytes.Equal(got, vectors[v.name]) {
			t.Errorf("%s: Append() = %x; want %x", v.name, got, vectors[v.name])
		}
		if got, err := ParseRecord(vectors[v.name]); err != nil || got != v.record {
			t.Errorf("%s: ParseRecord() = %+v, %v; want %+v", v.name, got, err, v.record)
		}
	}
}

// chunkVectors are whole streams: the bytes in them and the end.
var chunkVectors = []struct {
	name   string
	chunks []string
}{
	{"nothing", nil},
	{"one chunk", []string{"hello"}},
	{"two chunks", []string{"a", "bc"}},
}

func TestChunkVectors(t *testing.T) {
	vectors := readVectors(t, "chunks.txt")
	var known []string
	for _, v := range chunkVectors {
		known = append(known, v.name)
		if got := encodeChunks(v.chunks); !bytes.Equal(got, vectors[v.name]) {
			t.Errorf("%s: encoded %x; want %x", v.name, got, vectors[v.name])
		}
		chunks, total, err := decodeChunks(bytes.NewReader(vectors[v.name]))
		if err != nil || !slices.Equal(chunks, v.chunks) || total != uint64(len(strings.Join(v.chunks, ""))) {
			t.Errorf("%s: decoded %q, %d, %v; want %q", v.name, chunks, total, err, v.chunks)
		}
	}
	sameNames(t, "chunks.txt", vectors, known)
}

// encodeChunks gives a stream with its end, from the package's pieces.
func encodeChunks(chunks []string) []byte {
	var b []byte
	total := 0
	for _, c := range chunks {
		var hdr [ChunkHeaderSize]byte
		PutChunkHeader(hdr[:], len(c))
		b = append(append(b, hdr[:]...), c...)
		total += len(c)
	}
	return AppendEnd(b, uint64(total))
}

// decodeChunks is a small receiver. An end of file before the end is io.ErrUnexpectedEOF.
func decodeChunks(r io.Reader) (chunks []string, total uint64, err error) {
	for {
		var hdr [ChunkHeaderSize]byte
		if _, err := io.ReadFull(r, hdr[:]); err != nil {
			return chunks, 0, noEOF(err)
		}
		n, err := ChunkLength(hdr[:], MaxChunk)
		if err != nil {
			return chunks, 0, err
		}
		if n == 0 {
			var end [EndSize - ChunkHeaderSize]byte
			if _, err := io.ReadFull(r, end[:]); err != nil {
				return chunks, 0, noEOF(err)
			}
			for _, c := range end {
				total = total<<8 | uint64(c)
			}
			return chunks, total, nil
		}
		var b strings.Builder
		if _, err := io.CopyN(&b, r, int64(n)); err != nil {
			return chunks, 0, noEOF(err)
		}
		chunks = append(chunks, b.String())
	}
}

// TestRejects reads what must be refused: every file of testdata/reject holds vectors for one reader.
func TestRejects(t *testing.T) {
	for file, read := range map[string]func([]byte) error{
		"hello.txt":    func(b []byte) error { _, err := ReadHello(bytes.NewReader(b)); return err },
		"request.txt":  func(b []byte) error { _, err := ReadRequest(bytes.NewReader(b), MaxMessage); return err },
		"response.txt": func(b []byte) error { _, _, err := ReadResponse(bytes.NewReader(b), MaxMessage); return err },
		"preamble.txt": func(b []byte) error { _, err := ReadPreamble(bytes.NewReader(b)); return err },
		"accept.txt":   func(b []byte) error { return ReadAccept(bytes.NewReader(b), preambleVectors[1].preamble) },
		"record.txt":   func(b []byte) error { _, err := ParseRecord(b); return err },
		"chunks.txt":   func(b []byte) error { _, _, err := decodeChunks(bytes.NewReader(b)); return err },
	} {
		for name, b := range readVectors(t, filepath.Join("reject", file)) {
			err := read(b)
			if want := rejection(name); !errors.Is(err, want) {
				t.Errorf("%s, %s: error %v; want %v", file, name, err, want)
			}
		}
	}
}

// rejection is the error that a reject vector's name asks for.
func rejection(name string) error {
	switch {
	case strings.HasPrefix(name, "magic of hello"):
		return ErrNotBellhop
	case strings.HasPrefix(name, "cut"):
		return io.ErrUnexpectedEOF
	}
	return ErrProtocol
}
