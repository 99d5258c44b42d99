//go:build linux && cgo && seccomp

package seccomp

import (
	"encoding/binary"
	"slices"

	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// Words of struct seccomp_data, seccomp(2), which a filter reads 32 bits at a time.
const (
	wordNumber = 0
	wordArch   = 1
	wordArgs   = 4 // two for each argument
	words      = 16
)

// word is a value that the filter works with.
type word struct {
	value uint32
	known bool // otherwise it may be any
}

// Answers gives all that the filter may return for a system call of this binary's architecture: SECCOMP_RET_* with their data. The call's first arguments are the given ones, at most six, and the others may be anything.
// No filter gives none, and so does one that Compile did not make.
func (f Filter) Answers(call uint32, args ...uint64) []uint32 {
	native, err := libseccomp.GetNativeArch()
	if err != nil {
		return nil
	}
	return f.answers(auditArchs[native], call, args...)
}

func (f Filter) answers(audit, call uint32, args ...uint64) (answers []uint32) {
	data := [words]word{wordNumber: {call, true}, wordArch: {audit, true}}
	for i, arg := range args {
		half := binary.NativeEndian.AppendUint64(nil, arg)
		data[wordArgs+2*i] = word{binary.NativeEndian.Uint32(half), true}
		data[wordArgs+2*i+1] = word{binary.NativeEndian.Uint32(half[4:]), true}
	}
	seen := make(map[state]bool)
	for todo := []state{{}}; len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[s] {
			continue
		}
		seen[s] = true
		in, ok := f.instruction(s.at)
		if !ok {
			return nil
		}
		if in.Code == unix.BPF_RET|unix.BPF_K {
			answers = append(answers, in.K)
			continue
		}
		next, ok := s.step(in, &data)
		if !ok {
			return nil
		}
		todo = append(todo, next...)
	}
	slices.Sort(answers)
	return slices.Compact(answers)
}

// instruction decodes one; false beyond the end.
func (f Filter) instruction(at int) (unix.SockFilter, bool) {
	if (at+1)*unix.SizeofSockFilter > len(f.Program) {
		return unix.SockFilter{}, false
	}
	in := f.Program[at*unix.SizeofSockFilter:]
	return unix.SockFilter{Code: binary.NativeEndian.Uint16(in), Jt: in[2], Jf: in[3], K: binary.NativeEndian.Uint32(in[4:])}, true
}

// state is where the program is, and its accumulator there.
type state struct {
	at          int
	accumulator word
}

// step gives what may follow an instruction: two states where an argument that is not known decides. False: libseccomp and this package make no such instruction. Every jump is forward, so that a program ends.
func (s state) step(in unix.SockFilter, data *[words]word) (next []state, ok bool) {
	a := s.accumulator
	switch in.Code {
	case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
		if in.K%4 != 0 || in.K/4 >= words {
			return nil, false
		}
		return []state{{s.at + 1, data[in.K/4]}}, true
	case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
		a.value &= in.K
		return []state{{s.at + 1, a}}, true
	case unix.BPF_JMP | unix.BPF_JA:
		return []state{{s.at + 1 + int(in.K), a}}, true
	}
	holds, ok := compare(in, a.value)
	if !ok {
		return nil, false
	}
	then, otherwise := state{s.at + 1 + int(in.Jt), a}, state{s.at + 1 + int(in.Jf), a}
	switch {
	case !a.known:
		return []state{then, otherwise}, true
	case holds:
		return []state{then}, true
	}
	return []state{otherwise}, true
}

// compare does a conditional jump's comparison; false if it is none.
func compare(in unix.SockFilter, a uint32) (holds, ok bool) {
	switch in.Code {
	case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
		return a == in.K, true
	case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
		return a > in.K, true
	case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
		return a >= in.K, true
	case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
		return a&in.K != 0, true
	}
	return false, false
}
