/*
 * A fork copies the parent's mappings one by one, and the child's execve frees them one by one. The child needs four of them: the code, its constants, its variables and the stack. All
 * others, libc's and the Go runtime's data above all, are kept from it. That is possible because the child calls nothing of libc; see sys.h.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "slim.h"

enum { PAGE = 4096 };

static const char constant[] = "a constant beside those of the child";

static int holds(uintptr_t from, uintptr_t to, const void *p)
{
	return from <= (uintptr_t)p && (uintptr_t)p < to;
}

/* keep_from_child is for a mapping of which the child needs at most the part from keep to keep_end. */
static void keep_from_child(uintptr_t from, uintptr_t to, uintptr_t keep, uintptr_t keep_end)
{
	if (keep_end <= from || to <= keep) {
		madvise((void *)from, to - from, MADV_DONTFORK);
		return;
	}
	if (from < keep)
		madvise((void *)from, keep - from, MADV_DONTFORK);
	if (keep_end < to)
		madvise((void *)keep_end, to - keep_end, MADV_DONTFORK);
}

/*
 * leave_rseq ends libc's registration of restartable sequences, rseq(2), which a child inherits: the kernel would kill it when it finds no memory there. It says whether there is none any
 * more.
 */
static int leave_rseq(void)
{
	const size_t size = 32; /* what libc registers, whatever part of it is in use */

	if (__rseq_size == 0)
		return 1;
	return syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) == 0;
}

/* Failures do no harm: the child then has more than it needs. */
void slim(const void *variables, size_t size)
{
	uintptr_t keep = (uintptr_t)variables & -(uintptr_t)PAGE;
	uintptr_t keep_end = ((uintptr_t)variables + size + PAGE - 1) & -(uintptr_t)PAGE;
	static char maps[16 << 10];
	ssize_t n, total = 0;
	char *p = maps, *end;
	uintptr_t from, to;
	int fd;

	if (!leave_rseq())
		return;
	fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	while ((n = read(fd, maps + total, sizeof maps - 1 - total)) > 0)
		total += n;
	close(fd);
	maps[total] = 0;
	while (*p != 0) {
		from = strtoul(p, &end, 16);
		to = strtoul(end + 1, &end, 16);
		if (!holds(from, to, (void *)(uintptr_t)child_main) && !holds(from, to, constant) && !holds(from, to, &from))
			keep_from_child(from, to, keep, keep_end);
		for (p = end; *p != 0 && *p != '\n'; p++)
			;
		if (*p == '\n')
			p++;
	}
}
