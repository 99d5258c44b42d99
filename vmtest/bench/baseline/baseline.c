// The least that an init of a guest can do: it loads the modules that the
// initramfs lists, as the agent does, and connects once to the host. What a boot
// takes beyond this is the agent's.
//
// Build: gcc -O2 -static baseline.c
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define MODULE_LIST "/etc/bellhop/modules"
#define HOST_PORT 1025 // boot.go has the same number

static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		dprintf(2, "baseline: cannot load module %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void load_modules(void)
{
	FILE *list = fopen(MODULE_LIST, "re");
	char line[4096];

	while (list != NULL && fgets(line, sizeof(line), list) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '/')
			load(line);
	}
	if (list != NULL)
		fclose(list);
}

static int connect_to_host(void)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = HOST_PORT };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	return connect(fd, (struct sockaddr *)&host, sizeof(host));
}

int main(void)
{
	load_modules();
	if (connect_to_host() < 0)
		dprintf(2, "baseline: cannot connect to the host: %s\n", strerror(errno));
	for (;;)
		pause();
}
