/*
 * Programs that the agent's binary becomes as the first process of a container, before libc's main and the Go runtime start. They live in the container, whose other processes may trace and
 * kill them, and are trusted by nobody.
 */
#define _GNU_SOURCE
#include "builtin.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* take_signals blocks all signals, for sigwaitinfo, and gives those that were blocked before. The first process of a PID namespace thereby also hears those that would do nothing to it. */
static sigset_t take_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, before);
	return all;
}

/* set_title makes the arguments from the second on those that ps(1) shows, and the name, name. They move to the beginning of their memory. */
static char **set_title(int argc, char **argv, const char *name)
{
	char *end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
	size_t shift = argv[1] - argv[0];
	int i;

	prctl(PR_SET_NAME, name);
	memmove(argv[0], argv[1], end - argv[1]);
	memset(end - shift, 0, shift);
	for (i = 1; i < argc; i++)
		argv[i] -= shift;
	return argv + 1;
}

/* run_path tries the directories of PATH as execvp(3) does, but for its shell: where all fail, a permission denied is told rather than an absence. */
static int run_path(char **args)
{
	const char *path = getenv("PATH"), *end;
	int err = ENOENT;
	char file[4096];

	for (; path != NULL; path = *end == ':' ? end + 1 : NULL) {
		end = strchrnul(path, ':');
		if (end == path || snprintf(file, sizeof file, "%.*s/%s", (int)(end - path), path, args[0]) >= (int)sizeof file)
			continue;
		execv(file, args);
		if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			return errno;
		if (errno == EACCES)
			err = EACCES;
	}
	return err;
}

/*
 * run executes the program in the forked child. It has a process group of its own, which gets what is typed at the terminal, if there is one. It cannot lead a session: that is the init's, as
 * the terminal is.
 */
static _Noreturn void run(char **args, const sigset_t *mask)
{
	int err;

	setpgid(0, 0);
	tcsetpgrp(0, getpid()); /* the signal for doing so from the background is blocked */
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (strchr(args[0], '/') != NULL) {
		execv(args[0], args);
		err = errno;
	} else {
		err = run_path(args);
	}
	dprintf(BUILTIN_REPORT, "errno %d", err);
	_exit(127);
}

/* reap collects all that have ended. It returns 1, and the wait status, if the child is among them. */
static int reap(pid_t child, int *status)
{
	int s, found = 0;
	pid_t pid;

	while ((pid = waitpid(-1, &s, WNOHANG | __WALL)) > 0) {
		if (pid == child) {
			*status = s;
			found = 1;
		}
	}
	return found;
}

/* tend waits for the child's end, and passes on what this process is told. */
static int tend(pid_t child, const sigset_t *all)
{
	int sig, status = 0;

	for (;;) {
		sig = sigwaitinfo(all, NULL);
		if (sig == SIGCHLD && reap(child, &status))
			return status;
		if (sig > 0 && sig != SIGCHLD)
			kill(child, sig);
	}
}

/* init_main ends as its child does, as far as a process can say so: the first of a PID namespace cannot be killed by a signal of its own. */
static _Noreturn void init_main(char **args)
{
	sigset_t mask, all = take_signals(&mask);
	int status;
	pid_t child;

	/* Not first in its PID namespace, it has the orphans of its own program all the same. */
	if (getpid() != 1)
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	fcntl(BUILTIN_STATUS, F_SETFD, FD_CLOEXEC);
	fcntl(BUILTIN_REPORT, F_SETFD, FD_CLOEXEC);
	child = fork();
	if (child == 0)
		run(args, &mask);
	if (child < 0) {
		dprintf(BUILTIN_REPORT, "errno %d", errno);
		_exit(127);
	}
	/* The stdio is the program's: an end of file must come when that has closed it. */
	syscall(SYS_close_range, 0, 2, 0);
	close(BUILTIN_REPORT);
	status = tend(child, &all);
	if (write(BUILTIN_STATUS, &status, sizeof status) < 0) {
		/* The agent is gone. */
	}
	_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

/* pause_main holds namespaces until it is asked to end, and as the first of a PID namespace reaps its orphans. */
static _Noreturn void pause_main(void)
{
	sigset_t all = take_signals(NULL);
	int sig;

	syscall(SYS_close_range, 0, ~0U, 0); /* the report too: from here signals are heard */
	for (;;) {
		sig = sigwaitinfo(&all, NULL);
		if (sig == SIGTERM || sig == SIGINT)
			_exit(0);
		if (sig == SIGCHLD)
			reap(0, &sig); /* whoever it is */
	}
}

/* Runs in every process of this binary, before main. A lower number runs earlier; 100 and below belong to the C implementation. */
__attribute__((constructor(101))) static void builtin_constructor(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[0], BUILTIN_EXE) != 0)
		return;
	if (strcmp(argv[1], BUILTIN_INIT) == 0 && argc > 2)
		init_main(set_title(argc, argv, "init") + 1);
	if (strcmp(argv[1], BUILTIN_PAUSE) == 0 && argc == 2) {
		set_title(argc, argv, "pause");
		pause_main();
	}
}
