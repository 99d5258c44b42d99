// Package asm has the part of github.com/cilium/ebpf/asm with which libcontainer's cgroups package writes its device filter: see the README above this directory.
package asm

import (
	"encoding/binary"
	"fmt"
	"io"
)

// InstructionSize is the size of an instruction in bytes. (Those of twice the size cannot be made here.)
const InstructionSize = 8

// Register is one of the machine's registers.
type Register uint8

// What a device filter uses: R0 is its result, R1 its argument.
const (
	R0 Register = iota
	R1
	R2
	R3
	R4
	R5
)

// Size is of what an instruction loads.
type Size uint8

// Word is four bytes.
const Word Size = 0x00

// The parts of an opcode (linux/bpf_common.h and linux/bpf.h): class, mode and source.
const (
	classLDX   = 0x01
	classALU   = 0x04
	classJMP   = 0x05
	classALU64 = 0x07
	modeMEM    = 0x60
	sourceReg  = 0x08
	opExit     = 0x90
)

// ALUOp is an arithmetic operation.
type ALUOp uint8

// The operations of a device filter.
const (
	And ALUOp = 0x50
	RSh ALUOp = 0x70
	Mov ALUOp = 0xb0
)

// JumpOp is a condition.
type JumpOp uint8

// JNE is true of operands that differ.
const JNE JumpOp = 0x50

// Instruction is one instruction. A jump names the instruction it leads to.
type Instruction struct {
	opcode         uint8
	dst, src       Register
	offset         int16
	constant       int32
	symbol, target string
}

// WithSymbol returns the instruction with a name that jumps can lead to.
func (i Instruction) WithSymbol(name string) Instruction {
	i.symbol = name
	return i
}

// LoadMem loads what is offset bytes behind src.
func LoadMem(dst, src Register, offset int16, size Size) Instruction {
	return Instruction{opcode: classLDX | modeMEM | uint8(size), dst: dst, src: src, offset: offset}
}

// Imm computes with 64 bits.
func (op ALUOp) Imm(dst Register, value int32) Instruction {
	return Instruction{opcode: classALU64 | uint8(op), dst: dst, constant: value}
}

// Imm32 computes with 32 bits.
func (op ALUOp) Imm32(dst Register, value int32) Instruction {
	return Instruction{opcode: classALU | uint8(op), dst: dst, constant: value}
}

// Reg32 computes with 32 bits.
func (op ALUOp) Reg32(dst, src Register) Instruction {
	return Instruction{opcode: classALU | sourceReg | uint8(op), dst: dst, src: src}
}

// Imm jumps to target if the condition holds for dst and value.
func (op JumpOp) Imm(dst Register, value int32, target string) Instruction {
	return Instruction{opcode: classJMP | uint8(op), dst: dst, constant: value, target: target}
}

// Reg jumps to target if the condition holds for dst and src.
func (op JumpOp) Reg(dst, src Register, target string) Instruction {
	return Instruction{opcode: classJMP | sourceReg | uint8(op), dst: dst, src: src, target: target}
}

// Return ends the program.
func Return() Instruction { return Instruction{opcode: classJMP | opExit} }

// Instructions is a program.
type Instructions []Instruction

// Size is the program's size in bytes.
func (p Instructions) Size() uint64 { return uint64(len(p)) * InstructionSize }

// Marshal writes the program as the kernel takes it.
func (p Instructions) Marshal(w io.Writer, order binary.ByteOrder) error {
	places := make(map[string]int, len(p))
	for n, i := range p {
		if i.symbol != "" {
			places[i.symbol] = n
		}
	}
	for n, i := range p {
		if i.target != "" {
			place, ok := places[i.target]
			if !ok {
				return fmt.Errorf("instruction %d jumps to %s, which is nowhere", n, i.target)
			}
			i.offset = int16(place - n - 1)
		}
		if _, err := w.Write(i.encode(order)); err != nil {
			return err
		}
	}
	return nil
}

// encode lays the instruction out as struct bpf_insn, whose two registers are bit fields.
func (i Instruction) encode(order binary.ByteOrder) []byte {
	low, high := i.dst, i.src
	if order == binary.BigEndian {
		low, high = high, low
	}
	b := make([]byte, InstructionSize)
	b[0], b[1] = i.opcode, uint8(high)<<4|uint8(low)
	order.PutUint16(b[2:], uint16(i.offset))
	order.PutUint32(b[4:], uint32(i.constant))
	return b
}
