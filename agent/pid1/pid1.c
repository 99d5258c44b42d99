// PID 1 of a Bellhop guest, in C and before the Go runtime starts, so that it
// has no threads, no garbage collector and next to no memory, and so that the
// agent, its child, has no duty to reap strangers.
//
// The kernel runs the binary twice as PID 1. The first time, as /init, it moves
// the root to where pivot_root works, copies itself into a sealed memfd and
// executes that with clean arguments and environment: whatever the kernel
// command line had in store for init stays behind. The second time it forks.
// The child returns from the constructor and becomes the Go program; the parent
// never returns.

#define _GNU_SOURCE
#include "disks.h"
#include "modules.h"
#include "pid1.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mount.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U // Linux 6.3
#endif

// argv[0] of the second run. The kernel names init by the path it ran, so no
// kernel command line leads here by accident.
#define SEALED_NAME "bellhop-init"
#define AGENT_NAME "bellhopd"

// How long PID 1 waits for what it killed to be gone before it powers off.
#define REAP_SECONDS 5

#define say(format, ...) dprintf(2, "bellhop-init: " format "\n", ##__VA_ARGS__)

struct bellhop_shared *bellhop_pid1_shared;

static int64_t boottime_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_BOOTTIME, &t) < 0)
		return 0;
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

// open_console gives the process fds 0 to 2 when the kernel could not, because
// the initramfs holds no /dev/console. Without them the next file opened would
// be taken for standard input.
static void open_console(void)
{
	int fd;

	if (fcntl(2, F_GETFD) >= 0)
		return;
	mkdir("/dev", 0755);
	mknod("/dev/console", S_IFCHR | 0600, makedev(5, 1));
	mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3));
	fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 2)
		fd = dup(fd);
}

static int on_rootfs(void)
{
	struct statfs fs;

	return statfs("/", &fs) == 0 && (fs.f_type == RAMFS_MAGIC || fs.f_type == TMPFS_MAGIC);
}

// move_root puts a clone of the root mount, with all that is mounted beneath
// it, on top of the root mount. The initramfs' own root mount has no parent, for
// which pivot_root(2) refuses to leave it; the clone has. Nothing is copied.
static void move_root(void)
{
	int tree = syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (tree < 0) {
		say("cannot clone the root mount: %s", strerror(errno));
		return;
	}
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
	    fchdir(tree) < 0 || chroot(".") < 0)
		say("cannot move the root mount: %s", strerror(errno));
	close(tree);
}

static int copy_file(int to, int from)
{
	ssize_t n;

	do
		n = sendfile(to, from, NULL, 16 << 20);
	while (n > 0);
	return n;
}

// sealed_copy returns a memfd with the content of the executable at path, which
// nobody can change any more, or -1 with errno. A container that gets hold of
// /proc/PID/exe of an agent's process can then do no harm (CVE-2019-5736), and
// libcontainer, which checks for the seals, does not copy the binary each time.
static int sealed_copy(const char *path)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int from, to, saved;

	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -1;
	to = memfd_create(AGENT_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (to < 0 && errno == EINVAL)
		to = memfd_create(AGENT_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (to >= 0 && (copy_file(to, from) < 0 || fchmod(to, 0555) < 0 || fcntl(to, F_ADD_SEALS, seals) < 0)) {
		saved = errno;
		close(to);
		to = -1;
		errno = saved;
	}
	saved = errno;
	close(from);
	errno = saved;
	return to;
}

// run_sealed replaces this process by its second run. It returns only when even
// the unsealed binary cannot be executed.
static void run_sealed(int64_t start_ns, int rootfs)
{
	const char *path = (const char *)getauxval(AT_EXECFN);
	char start[24];
	char *argv[] = { SEALED_NAME, start, NULL };
	char *envp[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", NULL };
	int fd;

	if (path == NULL)
		path = "/init";
	snprintf(start, sizeof(start), "%lld", (long long)start_ns);
	fd = sealed_copy(path);
	if (fd >= 0) {
		// In an initramfs the original only takes memory from now on. It is
		// the kernel's /init; under another name somebody may want it.
		if (rootfs && strcmp(path, "/init") == 0)
			unlink(path);
		syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
	}
	say("cannot run a sealed copy of %s: %s; containers will start slowly", path, strerror(errno));
	execve(path, argv, envp);
	say("cannot execute %s: %s", path, strerror(errno));
}

// reap collects every child that has ended. It returns 1, and the agent's wait
// status, when the agent was among them.
static int reap(pid_t agent, int *status)
{
	int gone = 0, s;
	pid_t pid;

	while ((pid = waitpid(-1, &s, WNOHANG)) > 0) {
		if (pid == agent) {
			*status = s;
			gone = 1;
		}
	}
	return gone;
}

// kill_all ends every other process and waits, for a bounded time, until none
// is left: the disks that their files are on can then be unmounted.
static void kill_all(void)
{
	int64_t deadline = boottime_ns() + REAP_SECONDS * INT64_C(1000000000);
	const struct timespec step = { .tv_nsec = 100000000 };
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	kill(-1, SIGKILL);
	while (boottime_ns() < deadline) {
		if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		sigtimedwait(&chld, NULL, &step);
	}
	say("some processes did not end within %d s of SIGKILL", REAP_SECONDS);
}

// finish ends the machine, for a reason that the console then shows.
static void __attribute__((noreturn)) finish(int status, enum bellhop_ending ending)
{
	const char *what;

	if (WIFEXITED(status) && WEXITSTATUS(status) == BELLHOP_EXIT_REBOOT)
		ending = BELLHOP_REBOOT;
	what = ending == BELLHOP_REBOOT ? "rebooting" : "powering off";
	if (WIFSIGNALED(status))
		say("the agent was killed by signal %d (%s); %s", WTERMSIG(status), strsignal(WTERMSIG(status)), what);
	else
		say("the agent exited with status %d; %s", WEXITSTATUS(status), what);
	kill_all();
	if (bellhop_release_disks() < 0)
		say("the disks did not become idle; what was not written is lost");
	reboot(ending == BELLHOP_REBOOT ? RB_AUTOBOOT : RB_POWER_OFF);
	say("cannot end the machine: %s", strerror(errno));
	_exit(1); // the kernel panics, which panic=-1 turns into a reboot
}

// supervise is PID 1's life after the fork. Every signal is blocked and taken
// here one by one; all but SIGCHLD are the agent's business.
static void __attribute__((noreturn)) supervise(pid_t agent, const sigset_t *all)
{
	int status = 0;

	// First, since the first run has left a child whose SIGCHLD may be past.
	while (!reap(agent, &status)) {
		int sig;

		while ((sig = sigwaitinfo(all, NULL)) != SIGCHLD)
			if (sig > 0)
				kill(agent, sig);
	}
	finish(status, bellhop_pid1_shared->ending);
}

// become_agent makes the forked child an ordinary process with a name of its
// own. The memory of the arguments is what ps(1) shows.
static void become_agent(char **argv)
{
	sigset_t none;

	prctl(PR_SET_NAME, AGENT_NAME);
	memset(argv[1], 0, strlen(argv[1]));
	memset(argv[0], 0, strlen(argv[0]));
	strcpy(argv[0], AGENT_NAME);
	// A group of its own, but no session: a session leader that opens a
	// terminal by mistake would be hung up with it.
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

// start_agent forks. It returns in the child only.
static void start_agent(int64_t start_ns)
{
	struct bellhop_shared *shared;
	sigset_t all;
	pid_t pid;

	prctl(PR_SET_NAME, "bellhop-init");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		say("cannot map a page: %s", strerror(errno));
		_exit(1);
	}
	shared->start_ns = start_ns;
	shared->ending = BELLHOP_POWER_OFF;
	bellhop_pid1_shared = shared;
	reboot(RB_DISABLE_CAD); // ctrl-alt-del becomes a SIGINT to PID 1

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL); // before the fork, or its SIGCHLD could be lost
	pid = fork();
	if (pid < 0) {
		say("cannot fork the agent: %s", strerror(errno));
		_exit(1);
	}
	if (pid > 0)
		supervise(pid, &all);
}

static int is_init(const char *name)
{
	const char *slash = strrchr(name, '/');

	return strcmp(slash != NULL ? slash + 1 : name, "init") == 0;
}

// Runs before every other constructor, such as libcontainer's, whose behaviour
// the environment decides: PID 1's comes from the kernel command line. (glibc
// hands a constructor the arguments of main; musl does not.)
//
// The first process of a container also has pid 1. It is told apart by its
// name: the kernel runs init as /init, /sbin/init or as rdinit= and init= say.
__attribute__((constructor(101))) static void pid1(int argc, char **argv, char **envp)
{
	(void)envp;
	if (getpid() != 1 || argc < 1)
		return;
	if (strcmp(argv[0], SEALED_NAME) == 0 && argc == 2) {
		start_agent(strtoll(argv[1], NULL, 10));
		become_agent(argv);
	} else if (is_init(argv[0])) {
		int64_t start_ns = boottime_ns();
		int rootfs;

		open_console();
		rootfs = on_rootfs();
		if (rootfs)
			move_root();
		bellhop_start_loading_modules();
		run_sealed(start_ns, rootfs);
		_exit(1);
	}
}
