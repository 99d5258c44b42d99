#define _GNU_SOURCE
#include <asm/ioctls.h>
#include <asm/termios.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "child.h"
#include "sys.h"

static long open_resolved(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = resolve };

	return sys(SYS_openat2, dir, path, &how, sizeof how);
}

/*
 * open_master allocates a terminal in the container's devpts. The container may have put anything at these paths: the directory is reached without symbolic links and proven to be a
 * devpts, in which nobody can make files; and ptmx is opened in it without leaving this mount, so it is no other file bound over it.
 */
static long open_master(void)
{
	struct statfs fs;
	long dir, master;

	dir = open_resolved(AT_FDCWD, "/dev/pts", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
	child_must(STEP_TERMINAL, dir);
	child_must(STEP_TERMINAL, sys(SYS_fstatfs, dir, &fs));
	if (fs.f_type != DEVPTS_SUPER_MAGIC)
		child_fail(STEP_TERMINAL, 0, -ENODEV);
	master = open_resolved(dir, "ptmx", O_RDWR | O_NOCTTY, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
	child_must(STEP_TERMINAL, master);
	sys(SYS_close, dir);
	return master;
}

/* send_master gives the master to the agent. */
static void send_master(int master)
{
	struct reply r = { .kind = REPLY_MASTER };
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { .iov_base = &r, .iov_len = sizeof r };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	long err;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	*(int *)CMSG_DATA(c) = master;
	do
		err = sys(SYS_sendmsg, CHILD_REPLY, &msg, MSG_NOSIGNAL);
	while (err == -EINTR);
	child_must(STEP_TERMINAL, err);
}

void child_terminal(const struct request *r)
{
	struct winsize size = { .ws_col = r->columns, .ws_row = r->rows };
	int unlocked = 0;
	long master, slave, i;

	if ((r->flags & FLAG_TERMINAL) == 0)
		return;
	master = open_master();
	child_must(STEP_TERMINAL, sys(SYS_ioctl, master, TIOCSPTLCK, &unlocked));
	slave = sys(SYS_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	child_must(STEP_TERMINAL, slave);
	if ((r->flags & FLAG_WINDOW) != 0)
		child_must(STEP_TERMINAL, sys(SYS_ioctl, master, TIOCSWINSZ, &size));
	child_must(STEP_TERMINAL, sys(SYS_ioctl, slave, TIOCSCTTY, 0));
	for (i = 0; i < 3; i++)
		child_must(STEP_TERMINAL, sys(SYS_dup3, slave, i, 0));
	sys(SYS_close, slave);
	send_master(master);
	sys(SYS_close, master);
}
