#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"

/* make_directories makes each missing directory of an absolute path. What cannot be made shows when the directory is entered, but for the errno that tells why. */
static int make_directories(const char *path)
{
	char partial[PATH_MAX];
	size_t i, n = strlen(path);
	int err = ENOENT;

	if (n >= sizeof partial)
		return ENAMETOOLONG;
	for (i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != 0)
			continue;
		memcpy(partial, path, i);
		partial[i] = 0;
		if (mkdir(partial, 0755) != 0 && errno != EEXIST)
			err = errno;
	}
	return err;
}

int child_cwd(const struct request *r)
{
	const char *path = request_at(r, r->cwd);
	int err;

	if (r->cwd.count == 0 || chdir(path) == 0)
		return 1;
	if (errno == ENOENT) {
		err = make_directories(path);
		if (chdir(path) == 0)
			return 1;
		if (errno == ENOENT)
			errno = err;
	}
	/* The user may have access where root has none, on a network file system say. */
	if (errno == EACCES || errno == EPERM)
		return 0;
	child_fail(STEP_CWD, 0);
}

void child_cwd_user(const struct request *r)
{
	if (chdir(request_at(r, r->cwd)) != 0)
		child_fail(STEP_CWD, 0);
}

/*
 * child_cwd_check makes sure that the working directory is inside the container's root: if it is not, the kernel's path of it does not start with a slash. A path that leads outside, by
 * way of /proc/PID/fd say, is an attack (runc's CVE-2024-21626).
 */
void child_cwd_check(void)
{
	char path[PATH_MAX];

	if (syscall(SYS_getcwd, path, sizeof path) < 0)
		child_fail(STEP_CWD_OUTSIDE, 0);
	if (path[0] != '/') {
		errno = EXDEV;
		child_fail(STEP_CWD_OUTSIDE, 0);
	}
}
