#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "child.h"
#include "sys.h"

/* The device number of /dev/null, 1:3. On 64-bit architectures libc's struct stat is the kernel's. */
enum { NULL_DEVICE = 1 << 8 | 3 };

/* place puts a file where the child shall have it. */
static void place(int fd, int at, int flags)
{
	if (fd >= 0)
		child_must(STEP_STDIO, sys(SYS_dup3, fd, at, flags));
}

void child_stdio(const struct child_files *files)
{
	int i;

	/* The reply end first, for what fails is reported on it. It replaces the nursery's request socket. */
	place(files->reply, CHILD_REPLY, O_CLOEXEC);
	for (i = 0; i < 3; i++)
		place(files->stdio[i], i, 0);
	place(files->init, CHILD_INIT, O_CLOEXEC);
	child_must(STEP_STDIO, sys(SYS_close_range, files->init < 0 ? CHILD_INIT : CHILD_OTHERS, ~0U, 0));
}

void child_close(void)
{
	child_must(STEP_STDIO, sys(SYS_close_range, CHILD_REPLY + 1, ~0U, 0));
}

static int is_null(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == NULL_DEVICE;
}

/* open_null opens the container's /dev/null for reading and writing, or gives an error. What else may stand in its place is looked at, but not opened. */
static long open_null(void)
{
	struct stat st;
	long fd;

	if (sys(SYS_newfstatat, AT_FDCWD, "/dev/null", &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_null(&st))
		return -ENOENT;
	fd = sys(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fd;
	if (sys(SYS_fstat, fd, &st) == 0 && is_null(&st) && sys(SYS_fcntl, fd, F_SETFL, 0) == 0)
		return fd;
	sys(SYS_close, fd);
	return -ENOENT;
}

/* child_null replaces the guest's /dev/null, which stands where no stdio is given, by the container's, so that the container gets no hold of the former. */
void child_null(const struct request *r)
{
	static const uint32_t all = FILE_STDIN | FILE_STDOUT | FILE_STDERR;
	long i, fd;

	if ((r->flags & FLAG_TERMINAL) != 0 || (r->files & all) == all)
		return;
	fd = open_null();
	if (fd < 0)
		return;
	for (i = 0; i < 3; i++)
		if ((r->files & (uint32_t)FILE_STDIN << i) == 0)
			place(fd, i, 0);
}

/* child_owner gives stdio to the user, so that /dev/stdout and a terminal can be opened again. Only the uid: a mount may want its own gid. */
void child_owner(const struct request *r)
{
	struct stat st;
	long i, err;

	for (i = 0; i < 3; i++) {
		child_must(STEP_OWNER, sys(SYS_fstat, i, &st));
		if (st.st_uid == r->uid || is_null(&st))
			continue;
		err = sys(SYS_fchown, i, r->uid, -1);
		/* EPERM and EINVAL: the owner has no number in this user namespace. EROFS: a read-only /dev. The process can use what it has all the same. */
		if (err != -EPERM && err != -EINVAL && err != -EROFS)
			child_must(STEP_OWNER, err);
	}
}
