#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "child.h"
#include "sys.h"

/* make_directories makes each missing directory of an absolute path. Whether it has worked shows when the directory is entered; it gives the error that tells why it may not have. */
static __attribute__((noinline)) long make_directories(const char *path)
{
	char partial[PATH_MAX];
	size_t i, n = text_length(path);
	long made, err = -ENOENT;

	if (n >= sizeof partial)
		return -ENAMETOOLONG;
	for (i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != 0)
			continue;
		text_copy(partial, path, i);
		partial[i] = 0;
		made = sys(SYS_mkdirat, AT_FDCWD, partial, 0755);
		if (made < 0 && made != -EEXIST)
			err = made;
	}
	return err;
}

int child_cwd(const struct request *r)
{
	const char *path = request_at(r, r->cwd);
	long err, made;

	if (r->cwd.count == 0)
		return 1;
	err = sys(SYS_chdir, path);
	if (err == -ENOENT) {
		made = make_directories(path);
		err = sys(SYS_chdir, path);
		if (err == -ENOENT)
			err = made;
	}
	/* The user may have access where root has none, on a network file system say. */
	if (err == -EACCES || err == -EPERM)
		return 0;
	child_must(STEP_CWD, err);
	return 1;
}

void child_cwd_user(const struct request *r)
{
	child_must(STEP_CWD, sys(SYS_chdir, request_at(r, r->cwd)));
}

/* first_of gives the first character of the working directory's path. A large buffer would cost a page of the stack, so it is for the rare long path. */
static __attribute__((noinline)) char first_of_long(void)
{
	char path[PATH_MAX];

	child_must(STEP_CWD_OUTSIDE, sys(SYS_getcwd, path, sizeof path));
	return path[0];
}

static char first_of(void)
{
	char path[128];
	long err = sys(SYS_getcwd, path, sizeof path);

	if (err == -ERANGE)
		return first_of_long();
	child_must(STEP_CWD_OUTSIDE, err);
	return path[0];
}

/*
 * child_cwd_check makes sure that the working directory is inside the container's root: if it is not, the kernel's path of it does not start with a slash. A path that leads outside, by
 * way of /proc/PID/fd say, is an attack (runc's CVE-2024-21626).
 */
void child_cwd_check(void)
{
	if (first_of() != '/')
		child_fail(STEP_CWD_OUTSIDE, 0, -EXDEV);
}
