#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <string.h>

_Noreturn void child_fail(enum step step, uint32_t item)
{
	struct reply r = { .kind = REPLY_FAILED, .value = errno, .step = step, .item = item };

	while (send(CHILD_REPLY, &r, sizeof r, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
	_exit(127);
}

/* join_namespaces enters all namespaces of the container's init but the pid namespace, in which the child was born. */
static void join_namespaces(const struct request *r)
{
	int user = 0;

	if (setns(CHILD_INIT, r->namespaces) == 0) {
		user = (r->namespaces & CLONE_NEWUSER) != 0;
	} else {
		/* To join the user namespace that one is in is EINVAL: this container has none of its own. */
		if (errno != EINVAL || setns(CHILD_INIT, r->namespaces & ~CLONE_NEWUSER) != 0)
			child_fail(STEP_NAMESPACES, 0);
	}
	close(CHILD_INIT);
	if (!user)
		return;
	/* Become root there, or what is made from here on belongs to the overflow user. A namespace without a root has EINVAL; the child has all capabilities in it all the same. */
	if (syscall(SYS_setresgid, 0, 0, 0) != 0 && errno != EINVAL)
		child_fail(STEP_BECOME_ROOT, 0);
	if (syscall(SYS_setresuid, 0, 0, 0) != 0 && errno != EINVAL)
		child_fail(STEP_BECOME_ROOT, 0);
}

static void join_session(const struct request *r)
{
	if (setsid() < 0)
		child_fail(STEP_SESSION, 0);
	if (r->keyring.count == 0)
		return;
	/* A kernel without keys has no keyring to leak. */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, request_at(r, r->keyring)) < 0 && errno != ENOSYS)
		child_fail(STEP_KEYRING, 0);
}

static void set_execution(const struct request *r)
{
	if ((r->flags & FLAG_NO_NEW_PRIVS) != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		child_fail(STEP_NO_NEW_PRIVS, 0);
	umask(r->umask);
	if ((r->flags & FLAG_PERSONALITY) != 0 && personality(r->personality) < 0)
		child_fail(STEP_PERSONALITY, 0);
	if ((r->flags & FLAG_MEMPOLICY) == 0)
		return;
	/* The kernel takes one bit less than it is told. */
	if (syscall(SYS_set_mempolicy, r->mempolicy, r->nodes.count ? request_at(r, r->nodes) : NULL, r->nodes.count ? r->nodes.count * 8UL + 1 : 0UL) != 0)
		child_fail(STEP_MEMORY_POLICY, 0);
}

/* point writes pointers to the strings of a span, and NULL, and gives the place behind it. */
static char **point(const struct request *r, struct span s, char **out)
{
	char *p = request_at(r, s);
	uint32_t i;

	for (i = 0; i < s.count; i++) {
		*out++ = p;
		p += strlen(p) + 1;
	}
	*out++ = NULL;
	return out;
}

/* goes_on says whether a failed path lets the search go on, as execvp(3) has it. */
static int goes_on(int err)
{
	return err == EACCES || err == ENOENT || err == ENOTDIR || err == ENODEV || err == ESTALE || err == ETIMEDOUT;
}

/* execute tries the paths in their order. Where all fail, a permission denied is told rather than an absence. */
static _Noreturn void execute(const struct request *r)
{
	char **paths = request_at(r, r->pointers);
	char **args = point(r, r->paths, paths);
	char **env = point(r, r->args, args);
	uint32_t i, denied = 0;
	int any_denied = 0;

	point(r, r->env, env);
	for (i = 0; i < r->paths.count; i++) {
		do
			execve(paths[i], args, env);
		while (errno == EINTR);
		if (!goes_on(errno))
			child_fail(STEP_EXEC, i);
		if (errno == EACCES && !any_denied) {
			any_denied = 1;
			denied = i;
		}
	}
	if (any_denied) {
		errno = EACCES;
		child_fail(STEP_EXEC, denied);
	}
	child_fail(STEP_EXEC, 0);
}

/*
 * The order matters. What needs privilege in the first user namespace comes before the container's namespaces are joined, as does what needs the guest's own /proc: a container's may be
 * a fake. Directories are entered when no file descriptor is left through which a path could lead outside. A filter that needs privilege is loaded before it is given up, another as late
 * as possible.
 */
_Noreturn void child_main(struct request *r, const struct child_files *files)
{
	int in_cwd;

	child_stdio(files);
	child_oom_score(r);
	child_limits(r);
	child_scheduling(r);
	child_labels(r);
	if (files->init >= 0)
		join_namespaces(r);
	join_session(r);
	child_terminal(r);
	child_null(r);
	child_close();
	in_cwd = child_cwd(r);
	set_execution(r);
	if ((r->flags & FLAG_NO_NEW_PRIVS) == 0)
		child_seccomp(r);
	child_bounding(r);
	child_owner(r);
	child_identity(r);
	if (!in_cwd)
		child_cwd_user(r);
	child_cwd_check();
	child_capabilities(r);
	child_limits_final(r);
	if ((r->flags & FLAG_NO_NEW_PRIVS) != 0)
		child_seccomp(r);
	execute(r);
}
