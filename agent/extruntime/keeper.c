/*
 * A keeper runs one command of an OCI runtime and inherits the process that the command leaves behind: it is a subreaper, so the process, orphaned by the command's end, becomes its child.
 * It is made from the agent's binary and becomes this program before libc's main and the Go runtime start. It reports to the agent and takes no orders: to interrupt the command, the
 * agent kills that.
 */
#define _GNU_SOURCE
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* report sends an event, with a file unless fd is negative. An agent that is gone is no reason to leave the process alone. */
static void report(uint32_t kind, int32_t pid, int32_t value, uint32_t step, int fd)
{
	struct keeper_event event = { .kind = kind, .pid = pid, .value = value, .step = step };
	char control[CMSG_SPACE(sizeof fd)] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { .iov_base = &event, .iov_len = sizeof event };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c = (struct cmsghdr *)control;

	if (fd >= 0) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
		msg.msg_control = control;
		msg.msg_controllen = sizeof control;
	}
	while (sendmsg(KEEPER_SOCKET, &msg, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

/* clear ends the keeper when it has no children any more: what a failed command left, the agent finds by them, and kills. */
static _Noreturn void clear(void)
{
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
	_exit(1);
}

static _Noreturn void fail(uint32_t step, int err)
{
	report(KEEPER_FAILED, 0, err, step, -1);
	clear();
}

/* report_process reports an event of a child that nobody has waited for, so that its pid is its own. */
static void report_process(uint32_t kind, pid_t pid, uint32_t step)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		fail(step, errno);
	report(kind, pid, 0, 0, fd);
	close(fd);
}

static void setup(void)
{
	struct sigaction act = { .sa_handler = SIG_DFL };
	sigset_t none;
	int sig;

	prctl(PR_SET_NAME, KEEPER_ARGV0, 0, 0, 0);
	for (sig = 1; sig < NSIG; sig++)
		sigaction(sig, &act, NULL); /* fails for SIGKILL, SIGSTOP and libc's own, which are as they should be */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 || fcntl(KEEPER_SOCKET, F_SETFD, FD_CLOEXEC) != 0 ||
	    syscall(SYS_close_range, KEEPER_SOCKET + 1, ~0U, 0) != 0)
		fail(KEEPER_STEP_SETUP, errno);
}

/* run_command executes the command in the forked child. It ends with the keeper, and has not the agent's protection from the OOM killer, which all that it starts would inherit. */
static _Noreturn void run_command(char **command, pid_t keeper)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
		fail(KEEPER_STEP_SETUP, errno);
	if (getppid() != keeper)
		_exit(1);
	execv(command[0], command);
	fail(KEEPER_STEP_EXEC, errno);
}

/* let_go replaces the stdio, which is the command's and its process's: an end of file must come when those have closed it. */
static void let_go(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0 || dup2(fd, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		fail(KEEPER_STEP_SETUP, errno);
	close(fd);
}

/* await waits for one child, and reaps no other: until its pid is known, the process must keep it. */
static int await(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail(KEEPER_STEP_WAIT, errno);
	return status;
}

/* read_pid reads a file that holds one decimal number. */
static pid_t read_pid(const char *path)
{
	char text[16], *end;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	long pid;

	if (n < 0)
		fail(KEEPER_STEP_PID_FILE, errno);
	close(fd);
	text[n] = '\0';
	errno = 0;
	pid = strtol(text, &end, 10);
	if (errno != 0 || pid <= 0 || pid > INT32_MAX || (*end != '\0' && *end != '\n'))
		fail(KEEPER_STEP_PID_FILE, EINVAL);
	return pid;
}

/* adopt finds the process that the command left, and reports it. The error is ECHILD for one that is no child of this process. */
static pid_t adopt(const char *pid_file)
{
	pid_t pid = read_pid(pid_file);
	siginfo_t info;

	if (waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0)
		fail(KEEPER_STEP_PID_FILE, errno);
	report_process(KEEPER_ADOPTED, pid, KEEPER_STEP_PID_FILE);
	return pid;
}

/* keep reaps until the process ends. Others are orphans of a container that has no pid namespace of its own; later ones go to PID 1. */
static void keep(pid_t process)
{
	int status;
	pid_t pid;

	do {
		pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno != EINTR)
			fail(KEEPER_STEP_WAIT, errno);
	} while (pid != process);
	report(KEEPER_ENDED, pid, status, 0, -1);
}

static _Noreturn void keeper_main(const char *pid_file, char **command)
{
	pid_t self = getpid(), pid;
	int status;

	setup();
	pid = fork();
	if (pid < 0)
		fail(KEEPER_STEP_FORK, errno);
	if (pid == 0)
		run_command(command, self);
	let_go();
	report_process(KEEPER_STARTED, pid, KEEPER_STEP_FORK);
	status = await(pid);
	report(KEEPER_COMMAND_ENDED, pid, status, 0, -1);
	if (status != 0)
		clear();
	if (pid_file[0] == '\0')
		_exit(0);
	keep(adopt(pid_file));
	_exit(0);
}

/* Runs in every process of this binary, before main. A lower number runs earlier; 100 and below belong to the C implementation. */
__attribute__((constructor(101))) static void keeper_constructor(int argc, char **argv)
{
	if (argc >= 3 && strcmp(argv[0], KEEPER_ARGV0) == 0)
		keeper_main(argv[1], argv + 2);
}
