#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"

/* Files that the child needs to open itself while it prepares. */
enum { FILES_NEEDED = 64 };

/* write_file writes a string in one go to a file of the guest's own /proc. */
static int write_file(int dir, const char *path, const char *text, size_t n)
{
	int err, fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	ssize_t w;

	if (fd < 0)
		return -1;
	w = write(fd, text, n);
	err = errno;
	close(fd);
	errno = err;
	return w < 0 ? -1 : 0;
}

void child_oom_score(const struct request *r)
{
	char text[12];
	char *p = text + sizeof text;
	uint32_t n = r->oom_score_adj < 0 ? -(uint32_t)r->oom_score_adj : (uint32_t)r->oom_score_adj;

	do
		*--p = '0' + n % 10;
	while ((n /= 10) != 0);
	if (r->oom_score_adj < 0)
		*--p = '-';
	if (write_file(AT_FDCWD, "/proc/self/oom_score_adj", p, text + sizeof text - p) != 0)
		child_fail(STEP_OOM_SCORE, 0);
}

/*
 * child_limits sets the hard limits, which needs privilege in the first user namespace. The limit of open files must not stop the child's own work, so here it stays, if need be, above
 * what is asked for; child_limits_final lowers it.
 */
void child_limits(const struct request *r)
{
	const struct limit *l = request_at(r, r->limits);
	struct rlimit64 limit;
	uint32_t i;

	for (i = 0; i < r->limits.count; i++) {
		limit = (struct rlimit64){ .rlim_cur = l[i].soft, .rlim_max = l[i].hard };
		if (l[i].soft > l[i].hard) {
			errno = EINVAL;
			child_fail(STEP_RLIMIT, i);
		}
		if (l[i].resource == RLIMIT_NOFILE && limit.rlim_cur < FILES_NEEDED)
			limit = (struct rlimit64){ .rlim_cur = FILES_NEEDED, .rlim_max = limit.rlim_max < FILES_NEEDED ? FILES_NEEDED : limit.rlim_max };
		if (syscall(SYS_prlimit64, 0, l[i].resource, &limit, NULL) != 0)
			child_fail(STEP_RLIMIT, i);
	}
}

void child_limits_final(const struct request *r)
{
	const struct limit *l = request_at(r, r->limits);
	struct rlimit64 limit;
	uint32_t i;

	for (i = 0; i < r->limits.count; i++) {
		if (l[i].resource != RLIMIT_NOFILE || l[i].soft >= FILES_NEEDED)
			continue;
		limit = (struct rlimit64){ .rlim_cur = l[i].soft, .rlim_max = l[i].hard };
		if (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL) != 0)
			child_fail(STEP_RLIMIT, i);
	}
}

void child_scheduling(const struct request *r)
{
	const int who_process = 1; /* IOPRIO_WHO_PROCESS, which no header has */

	if ((r->flags & FLAG_SCHEDULER) != 0 && syscall(SYS_sched_setattr, 0, &r->scheduler, 0) != 0)
		child_fail(STEP_SCHEDULER, 0);
	if ((r->flags & FLAG_IOPRIO) != 0 && syscall(SYS_ioprio_set, who_process, 0, r->ioprio) != 0)
		child_fail(STEP_IO_PRIORITY, 0);
	if (r->affinity.count != 0 && syscall(SYS_sched_setaffinity, 0, r->affinity.count, request_at(r, r->affinity)) < 0)
		child_fail(STEP_AFFINITY, 0);
}

/* label_apparmor asks for a change of profile at execve. Kernels with several security modules have a file for each; older ones one for all. */
static void label_apparmor(int attr, const char *profile)
{
	char text[4096] = "exec ";
	size_t n = strlen(profile), head = strlen(text);

	if (n > sizeof text - head) {
		errno = ENAMETOOLONG;
		child_fail(STEP_LABEL, 0);
	}
	memcpy(text + head, profile, n);
	if (write_file(attr, "apparmor/exec", text, head + n) == 0)
		return;
	if (errno != ENOENT || write_file(attr, "exec", text, head + n) != 0)
		child_fail(STEP_LABEL, 0);
}

/* child_labels names the labels that execve and the keyring shall get. Nothing of it takes effect before. */
void child_labels(const struct request *r)
{
	const char *selinux = request_at(r, r->selinux);
	int attr;

	if (r->apparmor.count == 0 && r->selinux.count == 0)
		return;
	attr = open("/proc/thread-self/attr", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (attr < 0)
		child_fail(STEP_LABEL, 0);
	if (r->selinux.count != 0 && r->keyring.count != 0 && write_file(attr, "keycreate", selinux, strlen(selinux)) != 0)
		child_fail(STEP_LABEL, 0);
	if (r->selinux.count != 0 && write_file(attr, "exec", selinux, strlen(selinux)) != 0)
		child_fail(STEP_LABEL, 0);
	if (r->apparmor.count != 0)
		label_apparmor(attr, request_at(r, r->apparmor));
	/* It leads out of the container, and must be gone before a path of the container's is used. */
	close(attr);
}
