#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "child.h"

static int open_resolved(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = resolve };

	return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/*
 * open_master allocates a terminal in the container's devpts. The container may have put anything at these paths: the directory is reached without symbolic links and proven to be a
 * devpts, in which nobody can make files; and ptmx is opened in it without leaving this mount, so it is no other file bound over it.
 */
static int open_master(void)
{
	struct statfs fs;
	int dir, master, err;

	dir = open_resolved(AT_FDCWD, "/dev/pts", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
	if (dir < 0)
		child_fail(STEP_TERMINAL, 0);
	if (fstatfs(dir, &fs) != 0)
		child_fail(STEP_TERMINAL, 0);
	if (fs.f_type != DEVPTS_SUPER_MAGIC) {
		errno = ENODEV;
		child_fail(STEP_TERMINAL, 0);
	}
	master = open_resolved(dir, "ptmx", O_RDWR | O_NOCTTY, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
	err = errno;
	close(dir);
	errno = err;
	if (master < 0)
		child_fail(STEP_TERMINAL, 0);
	return master;
}

/* send_master gives the master to the agent, which knows by it that the terminal is ready. */
static void send_master(int master)
{
	struct reply r = { .kind = REPLY_MASTER };
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { .iov_base = &r, .iov_len = sizeof r };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &master, sizeof master);
	while (sendmsg(CHILD_REPLY, &msg, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			child_fail(STEP_TERMINAL, 0);
}

void child_terminal(const struct request *r)
{
	struct winsize size = { .ws_col = r->columns, .ws_row = r->rows };
	int master, slave, i, unlocked = 0;

	if ((r->flags & FLAG_TERMINAL) == 0)
		return;
	master = open_master();
	if (ioctl(master, TIOCSPTLCK, &unlocked) != 0)
		child_fail(STEP_TERMINAL, 0);
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		child_fail(STEP_TERMINAL, 0);
	if ((r->flags & FLAG_WINDOW) != 0 && ioctl(master, TIOCSWINSZ, &size) != 0)
		child_fail(STEP_TERMINAL, 0);
	if (ioctl(slave, TIOCSCTTY, 0) != 0)
		child_fail(STEP_TERMINAL, 0);
	for (i = 0; i < 3; i++)
		if (dup2(slave, i) < 0)
			child_fail(STEP_TERMINAL, 0);
	close(slave);
	send_master(master);
	close(master);
}
