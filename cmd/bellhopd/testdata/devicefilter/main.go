// Command devicefilter prints a program of the instructions of which libcontainer's cgroups package makes its device filters, in both byte orders. It is built with the assembler, and with what stands in for it.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"slices"

	"github.com/cilium/ebpf/asm"
)

func main() {
	program := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.And.Imm32(asm.R2, 0xFFFF),
		asm.LoadMem(asm.R3, asm.R1, 0, asm.Word),
		asm.RSh.Imm32(asm.R3, 16),
		asm.LoadMem(asm.R4, asm.R1, 4, asm.Word),
		asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),

		asm.JNE.Imm(asm.R2, 2, "block-1").WithSymbol("block-0"),
		asm.Mov.Reg32(asm.R1, asm.R3),
		asm.And.Imm32(asm.R1, 6),
		asm.JNE.Reg(asm.R1, asm.R3, "block-1"),
		asm.JNE.Imm(asm.R4, 1, "block-1"),
		asm.JNE.Imm(asm.R5, -1, "block-1"),
		asm.Mov.Imm32(asm.R0, 1),
		asm.Return(),

		asm.JNE.Imm(asm.R2, 1, "block-2").WithSymbol("block-1"),
		asm.Mov.Imm32(asm.R0, 0),
		asm.Return(),

		asm.Mov.Imm(asm.R0, 0).WithSymbol("block-2"),
		asm.Return(),
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		var b bytes.Buffer
		if err := program.Marshal(&b, order); err != nil {
			log.Fatal(err)
		}
		if uint64(b.Len()) != program.Size() || b.Len() != len(program)*asm.InstructionSize {
			log.Fatalf("Marshal wrote %d bytes; Size() = %d, %d instructions", b.Len(), program.Size(), len(program))
		}
		for instruction := range slices.Chunk(b.Bytes(), asm.InstructionSize) {
			fmt.Printf("%x\n", instruction)
		}
	}
	nowhere := asm.Instructions{asm.JNE.Imm(asm.R2, 2, "nowhere"), asm.Return()}
	fmt.Println("a jump to nowhere is refused:", nowhere.Marshal(new(bytes.Buffer), binary.LittleEndian) != nil)
}
