/*
 * The guest of the tests in a VM: PID 1 that loads the modules and serves commands on vsock port 1000, a process for
 * each connection. A command is 64 bytes, "NAME ARG...", padded with NUL.
 *
 *   echo              send back what comes until end of file, then shut down sending
 *   sink              read until end of file; answer with the number of bytes and their sum
 *   swallow N B       read N bytes in blocks of B; answer with a byte
 *   source N B        send N patterned bytes in blocks of B, then close
 *   blast N B         the same without the pattern, so that the copy is what costs
 *   both N            send N patterned bytes and shut down sending, then as sink
 *   stall             read nothing until the connection ends
 *   dial PORT N       connect to the host N times, one after the other, and close; answer with failures and nanoseconds
 *   refused PORT      connect to the host; answer with errno
 *   pipe N B          move N bytes in blocks of B through a pipe between two processes; answer with nanoseconds
 *   writer            write until that fails; leave the errno for lasterr
 *   lasterr           answer with the errno of the last writer that has ended
 *   reboot            restart the machine
 * Answers are pairs of 64-bit numbers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned char buf[1 << 20];
static volatile int *last_errno;

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void die(const char *what)
{
	printf("guest: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static unsigned char pattern(uint64_t i)
{
	return (unsigned char)(i ^ (i >> 8) ^ (i >> 16) * 7);
}

static int write_all(int fd, const void *p, size_t n)
{
	const char *c = p;
	while (n > 0) {
		ssize_t k = write(fd, c, n);
		if (k <= 0)
			return -1;
		c += k;
		n -= k;
	}
	return 0;
}

static void answer(int fd, int64_t a, int64_t b)
{
	int64_t v[2] = {a, b};
	write_all(fd, v, sizeof v);
}

static int dial(unsigned port)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		int e = errno;
		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

static void echo(int fd)
{
	ssize_t n;
	while ((n = read(fd, buf, sizeof buf)) > 0)
		if (write_all(fd, buf, n) < 0)
			return;
	shutdown(fd, SHUT_WR);
	while (read(fd, buf, sizeof buf) > 0)
		;
}

static void sink(int fd)
{
	uint64_t count = 0, sum = 0;
	ssize_t n;
	while ((n = read(fd, buf, sizeof buf)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			sum = sum * 31 + buf[i];
		count += n;
	}
	answer(fd, count, sum);
}

static void swallow(int fd, uint64_t total, size_t block)
{
	while (total > 0) {
		ssize_t n = read(fd, buf, block);
		if (n <= 0)
			return;
		total -= n;
	}
	write_all(fd, "", 1);
	while (read(fd, buf, sizeof buf) > 0)
		;
}

static int source(int fd, uint64_t total, size_t block, int patterned)
{
	for (uint64_t at = 0; at < total;) {
		size_t n = total - at < block ? total - at : block;
		if (patterned)
			for (size_t i = 0; i < n; i++)
				buf[i] = pattern(at + i);
		if (write_all(fd, buf, n) < 0)
			return -1;
		at += n;
	}
	return 0;
}

static void dials(int fd, unsigned port, int times)
{
	int failed = 0;
	int64_t start = now();
	for (int i = 0; i < times; i++) {
		int c = dial(port);
		if (c < 0)
			failed++;
		else
			close(c);
	}
	answer(fd, failed, now() - start);
}

static int64_t pipe_time(uint64_t total, size_t block)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		die("pipe");
	int64_t start = now();
	pid_t child = fork();
	if (child == 0) {
		close(p[0]);
		source(p[1], total, block, 0);
		_exit(0);
	}
	close(p[1]);
	while (read(p[0], buf, block) > 0)
		;
	int64_t took = now() - start;
	close(p[0]);
	waitpid(child, NULL, 0);
	return took;
}

/* A writer that waits for poll, as Go's runtime does: it must be woken when the host closes. */
static void writer(int fd)
{
	*last_errno = 0;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (;;) {
		ssize_t n = write(fd, buf, 65536);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};
			poll(&p, 1, -1);
			continue;
		}
		if (n < 0)
			break;
	}
	*last_errno = errno;
}

static void serve(int fd)
{
	char line[65] = "", name[16] = "";
	unsigned long long a = 0, b = 0;
	size_t got = 0;
	while (got < 64) {
		ssize_t n = read(fd, line + got, 64 - got);
		if (n <= 0)
			return;
		got += n;
	}
	sscanf(line, "%15s %llu %llu", name, &a, &b);
	if (!strcmp(name, "echo"))
		echo(fd);
	else if (!strcmp(name, "sink"))
		sink(fd);
	else if (!strcmp(name, "swallow"))
		swallow(fd, a, b);
	else if (!strcmp(name, "source"))
		source(fd, a, b, 1);
	else if (!strcmp(name, "blast"))
		source(fd, a, b, 0);
	else if (!strcmp(name, "both")) {
		source(fd, a, 65536, 1);
		shutdown(fd, SHUT_WR);
		/* The answer can't go this way: sum and count are checked by length alone. */
		while (read(fd, buf, sizeof buf) > 0)
			;
	} else if (!strcmp(name, "stall")) {
		struct pollfd p = {.fd = fd, .events = 0};
		poll(&p, 1, -1);
	} else if (!strcmp(name, "dial"))
		dials(fd, a, b);
	else if (!strcmp(name, "refused")) {
		errno = 0;
		dial(a);
		answer(fd, errno, 0);
	} else if (!strcmp(name, "pipe"))
		answer(fd, pipe_time(a, b), 0);
	else if (!strcmp(name, "writer"))
		writer(fd);
	else if (!strcmp(name, "lasterr"))
		answer(fd, *last_errno, 0);
	else if (!strcmp(name, "reboot"))
		reboot(RB_AUTOBOOT);
	close(fd);
}

static void load_modules(void)
{
	char path[512];
	FILE *list = fopen("/etc/bellhop/modules", "r");
	if (!list)
		die("module list");
	while (fgets(path, sizeof path, list)) {
		path[strcspn(path, "\n")] = 0;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			die(path);
		close(fd);
	}
	fclose(list);
}

int main(void)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1000};
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	last_errno = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	load_modules();
	int l = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof a) < 0 || listen(l, 256) < 0)
		die("listen");
	printf("guest: ready\n");
	fflush(stdout);
	for (;;) {
		int fd = accept(l, NULL, NULL);
		if (fd < 0)
			continue;
		pid_t child = fork();
		if (child == 0) {
			close(l);
			signal(SIGCHLD, SIG_DFL);
			serve(fd);
			_exit(0);
		}
		close(fd);
	}
}
