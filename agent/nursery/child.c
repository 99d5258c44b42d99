#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <sched.h>

#include "sys.h"

_Noreturn void child_fail(enum step step, uint32_t item, long error)
{
	struct reply r = { .kind = REPLY_FAILED, .value = -error, .step = step, .item = item };

	while (sys(SYS_write, CHILD_REPLY, &r, sizeof r) == -EINTR)
		;
	for (;;)
		sys(SYS_exit_group, 127);
}

/* join_namespaces enters all namespaces of the container's init but the pid namespace, in which the child was born. */
static void join_namespaces(const struct request *r)
{
	long user = r->namespaces & CLONE_NEWUSER;
	long err = sys(SYS_setns, CHILD_INIT, r->namespaces);

	/* To join the user namespace that one is in is EINVAL: then this container has none of its own. */
	if (err == -EINVAL && user != 0) {
		user = 0;
		err = sys(SYS_setns, CHILD_INIT, r->namespaces & ~CLONE_NEWUSER);
	}
	child_must(STEP_NAMESPACES, err);
	sys(SYS_close, CHILD_INIT);
	if (user == 0)
		return;
	/* Become root there, or what is made from here on belongs to the overflow user. A namespace without a root has EINVAL; the child has all capabilities in it all the same. */
	err = sys(SYS_setresgid, 0, 0, 0);
	if (err == 0 || err == -EINVAL)
		err = sys(SYS_setresuid, 0, 0, 0);
	if (err != -EINVAL)
		child_must(STEP_BECOME_ROOT, err);
}

static void join_session(const struct request *r)
{
	long err;

	child_must(STEP_SESSION, sys(SYS_setsid, 0));
	if (r->keyring.count == 0)
		return;
	err = sys(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, request_at(r, r->keyring));
	/* A kernel without keys has no keyring to leak. */
	if (err != -ENOSYS)
		child_must(STEP_KEYRING, err);
}

static void set_execution(const struct request *r)
{
	if ((r->flags & FLAG_NO_NEW_PRIVS) != 0)
		child_must(STEP_NO_NEW_PRIVS, sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	sys(SYS_umask, r->umask);
	if ((r->flags & FLAG_PERSONALITY) != 0)
		child_must(STEP_PERSONALITY, sys(SYS_personality, r->personality));
	/* The kernel takes one bit less than it is told. */
	if ((r->flags & FLAG_MEMPOLICY) != 0)
		child_must(STEP_MEMORY_POLICY, sys(SYS_set_mempolicy, r->mempolicy, r->nodes.count ? request_at(r, r->nodes) : NULL, r->nodes.count ? r->nodes.count * 8UL + 1 : 0));
}

/* point writes pointers to the strings of a span, and NULL, and gives the place behind it. */
static char **point(const struct request *r, struct span s, char **out)
{
	char *p = request_at(r, s);
	uint32_t i;

	for (i = 0; i < s.count; i++) {
		*out++ = p;
		p += text_length(p) + 1;
	}
	*out++ = NULL;
	return out;
}

/* goes_on says whether a failed path lets the search go on, as execvp(3) has it. */
static int goes_on(long err)
{
	return err == -EACCES || err == -ENOENT || err == -ENOTDIR || err == -ENODEV || err == -ESTALE || err == -ETIMEDOUT;
}

/* execute tries the paths in their order. Where all fail, a permission denied is told rather than an absence. */
static _Noreturn void execute(const struct request *r)
{
	char **paths = request_at(r, r->pointers);
	char **args = point(r, r->paths, paths);
	char **env = point(r, r->args, args);
	uint32_t i, item = 0;
	long err, first = 0;

	point(r, r->env, env);
	for (i = 0; i < r->paths.count; i++) {
		do
			err = sys(SYS_execve, paths[i], args, env);
		while (err == -EINTR);
		if (!goes_on(err))
			child_fail(STEP_EXEC, i, err);
		if (first == 0 || (err == -EACCES && first != -EACCES)) {
			first = err;
			item = i;
		}
	}
	child_fail(STEP_EXEC, item, first);
}

/*
 * The order matters. What needs privilege in the first user namespace comes before the container's namespaces are joined, as does what needs the guest's own /proc: a container's may be
 * a fake. Directories are entered when no file descriptor is left through which a path could lead outside. A filter that needs privilege is loaded before it is given up, another as late
 * as possible.
 */
_Noreturn void child_main(struct request *r, const struct child_files *files)
{
	int entered;

	child_stdio(files);
	child_limits(r);
	child_scheduling(r);
	child_labels(r);
	if (files->init >= 0)
		join_namespaces(r);
	join_session(r);
	child_terminal(r);
	if (files->init >= 0)
		child_null(r);
	child_close();
	entered = child_cwd(r);
	set_execution(r);
	if ((r->flags & FLAG_NO_NEW_PRIVS) == 0)
		child_seccomp(r);
	child_bounding(r);
	child_owner(r);
	child_identity(r);
	if (!entered)
		child_cwd_user(r);
	child_cwd_check();
	child_capabilities(r);
	child_limits_final(r);
	if ((r->flags & FLAG_NO_NEW_PRIVS) != 0)
		child_seccomp(r);
	execute(r);
}
