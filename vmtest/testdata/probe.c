// Says for each of a list of system calls how it ends: NAME and the errno, or 0. A call that kills its process has the signal's number, below 0.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// compat makes a call of the 32-bit ABI. Its arguments, in memory, must lie below 4 GiB, as those of a program linked without PIE do.
static long compat(long nr, long a, long b) {
	long ret;
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a), "c"(b) : "memory", "r8", "r9", "r10", "r11");
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return ret;
}

static unsigned vsock32[3] = {40, SOCK_STREAM, 0};

static long make(const char *name) {
	static char zeros[256];
	static struct { unsigned long flags, rest[10]; } clone3_args = {0, {0, 0, 0, SIGCHLD}};
#define TRY(n, call) if (!strcmp(name, n)) return call
	TRY("vsock", socket(40, SOCK_STREAM, 0));
	TRY("vsock-high", syscall(SYS_socket, 0x100000028, SOCK_STREAM, 0)); // the kernel sees 40
	TRY("vsock-i386", compat(359, 40, SOCK_STREAM));
	TRY("vsock-socketcall", compat(102, 1, (long)vsock32));
	TRY("unix", socket(AF_UNIX, SOCK_STREAM, 0));
	TRY("inet", socket(AF_INET, SOCK_STREAM, 0));
	TRY("inet6", socket(AF_INET6, SOCK_DGRAM, 0));
	TRY("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
	TRY("packet", socket(AF_PACKET, SOCK_RAW, 0));
	TRY("mount", syscall(SYS_mount, "none", "/mnt", "tmpfs", 0, 0));
	TRY("umount", syscall(SYS_umount2, "/mnt", 0));
	TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
	TRY("pivot_root", syscall(SYS_pivot_root, ".", "."));
	TRY("unshare-user", unshare(CLONE_NEWUSER));
	TRY("unshare-net", unshare(CLONE_NEWNET));
	TRY("clone-user", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
	TRY("clone", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	TRY("clone3", syscall(SYS_clone3, &clone3_args, sizeof clone3_args));
	TRY("keyctl", syscall(SYS_keyctl, 0, -3, 1));
	TRY("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
	TRY("bpf", syscall(SYS_bpf, 0, zeros, sizeof zeros));
	TRY("perf_event_open", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
	TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
	TRY("io_uring_setup", syscall(SYS_io_uring_setup, 1, zeros));
	TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, zeros, 0));
	TRY("init_module", syscall(SYS_init_module, zeros, 1, ""));
	TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 1));
	TRY("swapon", syscall(SYS_swapon, "/", 0));
	TRY("settimeofday", syscall(SYS_settimeofday, 0, 0));
	TRY("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
	TRY("personality", personality(0xffffffff));
	TRY("personality-no-randomize", personality(ADDR_NO_RANDOMIZE));
	TRY("new-call", syscall(1000));
	errno = ENOTSUP;
	return -1;
}

// attempt makes the call in a child.
static int attempt(const char *name) {
	int status;
	pid_t child = fork();
	if (child == 0) {
		long ret = make(name);
		_exit(ret < 0 ? errno : 0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1000;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++)
		printf("%s %d\n", argv[i], attempt(argv[i]));
	return 0;
}
