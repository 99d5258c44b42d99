package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"github.com/bellhop-vm/bellhop/protocol/pb"
)

// protoField is a field of a message of the .proto that holds messages.
type protoField struct {
	number   uint64
	message  string
	repeated bool
}

// protoMessages reads the .proto: the fields that hold messages, by message.
func protoMessages(t *testing.T) map[string][]protoField {
	t.Helper()
	text, err := os.ReadFile("pb/bellhop.proto")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?ms)^message (\w+) \{(\}|.*?^\})`).FindAllSubmatch(text, -1)
	messages := make(map[string][]protoField)
	for _, m := range found {
		messages[string(m[1])] = nil
	}
	fields := regexp.MustCompile(`(?m)^\s+(repeated |optional )?(\w+) \w+ = (\d+);`)
	for _, m := range found {
		for _, f := range fields.FindAllSubmatch(m[2], -1) {
			if _, isMessage := messages[string(f[2])]; !isMessage {
				continue
			}
			number, err := strconv.ParseUint(string(f[3]), 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			messages[string(m[1])] = append(messages[string(m[1])], protoField{number, string(f[2]), string(f[1]) == "repeated "})
		}
	}
	return messages
}

// elementsOf derives from the .proto what elements.go has as a table.
func elementsOf(messages map[string][]protoField, message string) elements {
	var e elements
	for _, f := range messages[message] {
		inner := elementsOf(messages, f.message)
		if !f.repeated && inner == nil {
			continue
		}
		if e == nil {
			e = make(elements)
		}
		e[f.number] = field{repeated: f.repeated, inner: inner}
	}
	return e
}

func TestElementsAreThoseOfTheProto(t *testing.T) {
	messages := protoMessages(t)
	for message, table := range map[string]elements{"Request": requestElements, "Response": responseElements, "Error": nil} {
		if want := elementsOf(messages, message); !reflect.DeepEqual(table, want) {
			t.Errorf("the elements of %s are %v; the .proto has %v", message, table, want)
		}
	}
	if len(messages["Response"]) < 18 || len(messages) < 60 {
		t.Errorf("the .proto has %d messages, Response %d fields: the test does not read it right", len(messages), len(messages["Response"]))
	}
}

// fieldOf encodes a field of bytes.
func fieldOf(number uint64, body []byte) []byte {
	b := binary.AppendUvarint(nil, number<<3|2)
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

// TestHostileElements decodes messages of the greatest size that are made of the smallest elements.
func TestHostileElements(t *testing.T) {
	// The tag and the length of an element take a byte each.
	empty := func(number uint64, n int) []byte { return bytes.Repeat(fieldOf(number, nil), n) }
	const many = MaxMessage/2 - 20
	for _, test := range []struct {
		name    string
		kind    Kind
		payload []byte
		refused bool
	}{
		{"processes", KindResult, fieldOf(11, empty(1, many)), true},
		{"processes at the limit", KindResult, fieldOf(11, empty(1, maxElements)), false},
		{"processes above the limit", KindResult, fieldOf(11, empty(1, maxElements+1)), true},
		{"streams of a process", KindResult, fieldOf(11, fieldOf(1, empty(7, many))), true},
		{"holders", KindResult, fieldOf(6, fieldOf(2, empty(4, many))), true},
		{"holders in an event", KindProgress, fieldOf(14, fieldOf(4, fieldOf(2, fieldOf(2, empty(4, many))))), true},
		{"many results in one", KindResult, bytes.Repeat(fieldOf(11, empty(1, 10)), maxElements/10+1), true},
		{"attached", KindResult, fieldOf(12, empty(1, many)), true},
		{"steps", KindError, empty(3, many), false},
		{"unknown fields", KindResult, fieldOf(11, bytes.Repeat(fieldOf(99, nil), many/2)), false},
		{"stdio", KindRequest, fieldOf(3, empty(5, many)), true},
		{"rlimits", KindRequest, fieldOf(3, fieldOf(4, fieldOf(2, empty(7, many)))), true},
		{"args", KindRequest, fieldOf(3, fieldOf(4, fieldOf(2, empty(3, many)))), false},
		{"groups", KindRequest, fieldOf(3, fieldOf(4, fieldOf(2, fieldOf(2, fieldOf(3, make([]byte, MaxMessage-40)))))), false},
		{"operations", KindRequest, empty(3, many), false},
	} {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(test.payload)))
		b = append(append(b, byte(test.kind)), test.payload...)
		before := liveHeap()
		_, m, err := readAny(b)
		grown := int64(liveHeap()) - int64(before)
		runtime.KeepAlive(m)
		if (err != nil) != test.refused || err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v; want refused %t", test.name, err, test.refused)
		}
		if grown > 12*MaxMessage {
			t.Errorf("%s: %d bytes live; want at most 12 times the message", test.name, grown)
		}
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestDeepGroups is for the decoder's own skipping of what it does not know: it must not recurse.
func TestDeepGroups(t *testing.T) {
	begin := []byte{99<<3&0x7f | 3 | 0x80, 99 >> 4}
	var h pb.Hello
	if err := h.UnmarshalVT(bytes.Repeat(begin, MaxMessage/2)); err == nil {
		t.Error("a million groups that do not end: no error; want one")
	}
}
