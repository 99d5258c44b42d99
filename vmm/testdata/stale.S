# A kernel (multiboot) that hangs as Linux does where QEMU has an old translation: in a breakpoint whose handler goes back to it. Once
# the breakpoint is there no more, neither in memory nor in the translation, it says so and powers off.
	.text
	.globl _start, breakpoint
	.align 4
	.long 0x1badb002, 0, -0x1badb002

	.code32
_start:	mov $tables + 0x1000 + 7, %eax	# 64-bit mode; the first GiB is mapped to itself
	mov %eax, tables
	movl $0x83, tables + 0x1000
	mov $tables, %eax
	mov %eax, %cr3
	mov $0x20, %eax			# PAE
	mov %eax, %cr4
	mov $0xc0000080, %ecx		# EFER
	rdmsr
	or $0x100, %eax			# LME
	wrmsr
	mov $0x80000001, %eax		# PG, PE
	mov %eax, %cr0
	lgdt gdtr
	ljmp $8, $1f

	.code64
1:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %ss
	mov $stack, %esp
	mov $back, %eax			# the gate of exception 3
	mov $gate, %edi
	mov %ax, (%rdi)
	shr $16, %eax
	mov %ax, 6(%rdi)
	mov $idtr, %edi
	lidt (%rdi)
	xor %ebx, %ebx
breakpoint:
	int3
	mov $went_on, %esi
	call print
	mov $0x604, %dx			# q35: ACPI's PM1a control register
	mov $0x2000, %ax
	out %ax, %dx
	hlt

back:	decq (%rsp)			# to the breakpoint, as Linux does where it finds none
	inc %ebx
	cmp $2, %ebx			# now there is a translation of it
	jne 2f
	mov $hanging, %esi
	call print
2:	iretq

print:	mov $0x3f8, %dx
3:	lodsb
	test %al, %al
	jz 4f
	out %al, %dx
	jmp 3b
4:	ret

	.data
hanging: .asciz "guest: hanging\n"
went_on: .asciz "guest: went on\n"
	.align 8
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:	.word 23
	.long gdt, 0
idt:	.fill 3 * 16
gate:	.word 0, 8, 0x8e00, 0, 0, 0, 0, 0
idtr:	.word 4 * 16 - 1
	.long idt, 0
	.balign 4096
tables:	.fill 2 * 4096
	.fill 4096
stack:
