#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "child.h"

/* place puts a file where the child shall have it. */
static void place(int fd, int at, int flags)
{
	if (fd < 0)
		return;
	if (syscall(SYS_dup3, fd, at, flags) < 0)
		child_fail(STEP_STDIO, 0);
}

void child_stdio(const struct child_files *files)
{
	int i;

	/* The reply socket first, for what fails is reported on it. It replaces the nursery's request socket. */
	if (syscall(SYS_dup3, files->reply, CHILD_REPLY, O_CLOEXEC) < 0)
		_exit(127);
	for (i = 0; i < 3; i++)
		place(files->stdio[i], i, 0);
	place(files->init, CHILD_INIT, O_CLOEXEC);
	if (syscall(SYS_close_range, files->init < 0 ? CHILD_INIT : CHILD_OTHERS, ~0U, 0) != 0)
		child_fail(STEP_STDIO, 0);
}

void child_close(void)
{
	if (syscall(SYS_close_range, CHILD_REPLY + 1, ~0U, 0) != 0)
		child_fail(STEP_STDIO, 0);
}

static int is_null(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

/* open_null opens the container's /dev/null for reading and writing, or gives -1. What else may stand in its place is looked at, but not opened. */
static int open_null(void)
{
	struct stat st;
	int fd;

	if (lstat("/dev/null", &st) != 0 || !is_null(&st))
		return -1;
	fd = open("/dev/null", O_RDWR | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && is_null(&st) && fcntl(fd, F_SETFL, 0) == 0)
		return fd;
	close(fd);
	return -1;
}

void child_null(const struct request *r)
{
	static const uint32_t bits[3] = { FILE_STDIN, FILE_STDOUT, FILE_STDERR };
	int i, fd;

	if ((r->flags & FLAG_TERMINAL) != 0 || (r->files & (FILE_STDIN | FILE_STDOUT | FILE_STDERR)) == (FILE_STDIN | FILE_STDOUT | FILE_STDERR))
		return;
	fd = open_null();
	if (fd < 0)
		return; /* the nursery's is there already */
	for (i = 0; i < 3; i++)
		if ((r->files & bits[i]) == 0)
			place(fd, i, 0);
}

/* child_owner gives stdio to the user, so that /dev/stdout and a terminal can be opened again. Only the uid: a mount may want its own gid. */
void child_owner(const struct request *r)
{
	struct stat st;
	int i;

	for (i = 0; i < 3; i++) {
		if (fstat(i, &st) != 0)
			child_fail(STEP_OWNER, 0);
		if (st.st_uid == r->uid || is_null(&st))
			continue;
		/* EPERM and EINVAL: the owner has no number in this user namespace. EROFS: a read-only /dev. The process can use what it has all the same. */
		if (fchown(i, r->uid, -1) != 0 && errno != EPERM && errno != EINVAL && errno != EROFS)
			child_fail(STEP_OWNER, 0);
	}
}
