/*
 * System calls without libc, for the child. It runs in a fresh copy of the nursery's memory, in which each page of code or data that it touches costs a page fault: libc's wrappers and
 * its errno lie far apart. So sys gives what the kernel gives, a result or a negative errno.
 */
#ifndef BELLHOP_NURSERY_SYS_H
#define BELLHOP_NURSERY_SYS_H

#include <stddef.h>
#include <sys/syscall.h>

/* Or the compiler would make calls of libc out of the loops below. */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

#if defined(__x86_64__)
static inline long sys_call(long n, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static inline long sys_call(long n, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
#else
#error "the nursery has no system calls for this architecture"
#endif

#define sys_pad(n, a, b, c, d, e, ...) sys_call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

/* sys makes a system call of one to five arguments. */
#define sys(n, ...) sys_pad(n, __VA_ARGS__, 0, 0, 0, 0, 0)

static inline size_t text_length(const char *s)
{
	size_t n = 0;

	while (s[n] != 0)
		n++;
	return n;
}

static inline void text_copy(char *to, const char *from, size_t n)
{
	while (n-- > 0)
		*to++ = *from++;
}

#endif
