// A head start for kernel modules: they load on one processor while the agent
// starts on another. Package kmod goes through the list again, and it is the one
// that says what failed.

#define _GNU_SOURCE
#include "modules.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODULE_LIST "/etc/bellhop/modules" // kmod.BootList

// More than any list that is worth a head start. What does not fit waits for package kmod.
static char list[16 << 10];

static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	syscall(SYS_finit_module, fd, "", 0);
	close(fd);
}

static void load_all(void)
{
	char *line = list, *end;
	int fd = open(MODULE_LIST, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, list, sizeof(list) - 1) <= 0)
		return;
	for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		*end = '\0';
		if (line[0] == '/')
			load(line);
	}
}

void bellhop_start_loading_modules(void)
{
	if (access(MODULE_LIST, R_OK) < 0 || fork() != 0)
		return;
	load_all();
	_exit(0);
}
