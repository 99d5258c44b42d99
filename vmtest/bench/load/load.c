// The guest's side of the benchmarks: moves bytes over vsock, over stdio or over a pipe, with blocks of a given size and nothing else in the way.
//
//	load raw-out PORT BYTES BLOCK   connect to the host, write BYTES
//	load raw-in PORT BYTES BLOCK    connect to the host, read BYTES
//	load out BYTES BLOCK            write BYTES to stdout
//	load in BYTES BLOCK             read BYTES from stdin
//	load pipe BYTES BLOCK           BYTES through a pipe to a child; prints nanoseconds
//	load pong PORT COUNT SIZE       connect, then COUNT times read SIZE bytes and write them back
//	load clock PORT                 connect, then for each byte write back CLOCK_MONOTONIC in ns, 8 bytes
//	load read                       the whole of each file that stdin names, a line each; prints nanoseconds
//
// Transfers on a connection begin when the peer has sent one byte (raw-out) or has one (raw-in), so that connecting is not measured.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long number(const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);
	if (*end || n < 0) {
		fprintf(stderr, "load: %s is not a number\n", s);
		exit(2);
	}
	return n;
}

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int host(long port)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		die("connect");
	return fd;
}

static void put(int fd, const char *buf, long n)
{
	while (n > 0) {
		ssize_t w = write(fd, buf, n);
		if (w < 0)
			die("write");
		buf += w;
		n -= w;
	}
}

// get reads exactly n bytes.
static void get(int fd, char *buf, long n)
{
	while (n > 0) {
		ssize_t r = read(fd, buf, n);
		if (r < 0)
			die("read");
		if (r == 0) {
			fprintf(stderr, "load: end of file\n");
			exit(1);
		}
		buf += r;
		n -= r;
	}
}

static char *block(long size)
{
	char *b = malloc(size);
	if (!b)
		die("malloc");
	memset(b, 'x', size);
	return b;
}

static void source(int fd, long bytes, long size)
{
	char *b = block(size);
	for (; bytes > 0; bytes -= size)
		put(fd, b, bytes < size ? bytes : size);
}

static void sink(int fd, long bytes, long size)
{
	char *b = block(size);
	while (bytes > 0) {
		ssize_t r = read(fd, b, size);
		if (r < 0)
			die("read");
		if (r == 0) {
			fprintf(stderr, "load: end of file, %ld bytes missing\n", bytes);
			exit(1);
		}
		bytes -= r;
	}
}

static void through_pipe(long bytes, long size)
{
	int p[2], status;
	if (pipe(p) < 0)
		die("pipe");
	int64_t start = now();
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		close(p[1]);
		sink(p[0], bytes, size);
		_exit(0);
	}
	close(p[0]);
	source(p[1], bytes, size);
	if (waitpid(pid, &status, 0) < 0 || status)
		die("reader");
	printf("%lld\n", (long long)(now() - start));
}

static void pong(long port, long count, long size)
{
	int fd = host(port);
	char *b = block(size);
	while (count-- > 0) {
		get(fd, b, size);
		put(fd, b, size);
	}
	close(fd);
}

static void clock_at(long port)
{
	int fd = host(port);
	char one;
	while (read(fd, &one, 1) == 1) {
		int64_t t = now();
		put(fd, (char *)&t, sizeof t);
	}
}

static void read_files(void)
{
	static char paths[1 << 20], buf[16 << 10];
	size_t size = 0;
	for (ssize_t n; (n = read(0, paths + size, sizeof(paths) - 1 - size)) > 0;)
		size += n;
	int64_t start = now();
	for (char *path = strtok(paths, "\n"); path; path = strtok(NULL, "\n")) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			die(path);
		while (read(fd, buf, sizeof(buf)) > 0)
			;
		close(fd);
	}
	printf("%lld\n", (long long)(now() - start));
}

int main(int argc, char **argv)
{
	char one = 0;
	signal(SIGPIPE, SIG_DFL);
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "raw-out") && argc == 5) {
		int fd = host(number(argv[2]));
		get(fd, &one, 1);
		source(fd, number(argv[3]), number(argv[4]));
		shutdown(fd, SHUT_WR);
		(void)!read(fd, &one, 1); // until the host has read it all
	} else if (!strcmp(what, "raw-in") && argc == 5) {
		int fd = host(number(argv[2]));
		put(fd, &one, 1);
		sink(fd, number(argv[3]), number(argv[4]));
		put(fd, &one, 1);
	} else if (!strcmp(what, "out") && argc == 4) {
		source(1, number(argv[2]), number(argv[3]));
	} else if (!strcmp(what, "in") && argc == 4) {
		put(1, &one, 1);
		sink(0, number(argv[2]), number(argv[3]));
		put(1, &one, 1);
	} else if (!strcmp(what, "pipe") && argc == 4) {
		through_pipe(number(argv[2]), number(argv[3]));
	} else if (!strcmp(what, "pong") && argc == 5) {
		pong(number(argv[2]), number(argv[3]), number(argv[4]));
	} else if (!strcmp(what, "clock") && argc == 3) {
		clock_at(number(argv[2]));
	} else if (!strcmp(what, "read") && argc == 2) {
		read_files();
	} else {
		fprintf(stderr, "usage: see the head of load.c\n");
		return 2;
	}
	return 0;
}
