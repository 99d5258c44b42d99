#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/resource.h>

#include "child.h"
#include "sys.h"

/* Files that the child needs to open itself while it prepares. */
enum { FILES_NEEDED = 64 };

/*
 * child_limits sets the limits, for which it may need privilege in the first user namespace. That of open files must not stop the child's own work, so here it stays, if need be, above
 * what is asked for; child_limits_final lowers it.
 */
void child_limits(const struct request *r)
{
	const struct limit *l = request_at(r, r->limits);
	struct rlimit64 limit;
	uint32_t i;
	long err;

	for (i = 0; i < r->limits.count; i++) {
		limit = (struct rlimit64){ .rlim_cur = l[i].soft, .rlim_max = l[i].hard };
		if (l[i].soft > l[i].hard)
			child_fail(STEP_RLIMIT, i, -EINVAL);
		if (l[i].resource == RLIMIT_NOFILE && limit.rlim_cur < FILES_NEEDED)
			limit = (struct rlimit64){ .rlim_cur = FILES_NEEDED, .rlim_max = limit.rlim_max < FILES_NEEDED ? FILES_NEEDED : limit.rlim_max };
		err = sys(SYS_prlimit64, 0, l[i].resource, &limit, NULL);
		if (err < 0)
			child_fail(STEP_RLIMIT, i, err);
	}
}

void child_limits_final(const struct request *r)
{
	const struct limit *l = request_at(r, r->limits);
	struct rlimit64 limit;
	uint32_t i;
	long err;

	for (i = 0; i < r->limits.count; i++) {
		if (l[i].resource != RLIMIT_NOFILE || l[i].soft >= FILES_NEEDED)
			continue;
		limit = (struct rlimit64){ .rlim_cur = l[i].soft, .rlim_max = l[i].hard };
		err = sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL);
		if (err < 0)
			child_fail(STEP_RLIMIT, i, err);
	}
}

void child_scheduling(const struct request *r)
{
	const int who_process = 1; /* IOPRIO_WHO_PROCESS, which no header has */

	if ((r->flags & FLAG_SCHEDULER) != 0)
		child_must(STEP_SCHEDULER, sys(SYS_sched_setattr, 0, &r->scheduler, 0));
	if ((r->flags & FLAG_IOPRIO) != 0)
		child_must(STEP_IO_PRIORITY, sys(SYS_ioprio_set, who_process, 0, r->ioprio));
	if (r->affinity.count != 0)
		child_must(STEP_AFFINITY, sys(SYS_sched_setaffinity, 0, r->affinity.count, request_at(r, r->affinity)));
}

/* write_label writes a label in one go to a file below /proc/thread-self/attr. */
static long write_label(int attr, const char *path, const char *text, size_t n)
{
	long err, fd = sys(SYS_openat, attr, path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return fd;
	err = sys(SYS_write, fd, text, n);
	sys(SYS_close, fd);
	return err;
}

/* label_apparmor asks for a change of profile at execve. Kernels with several security modules have a file for each; older ones one for all. */
static __attribute__((noinline)) void label_apparmor(int attr, const char *profile)
{
	char text[4096] = "exec ";
	size_t head = text_length(text), n = text_length(profile);
	long err;

	if (n > sizeof text - head)
		child_fail(STEP_LABEL, 0, -ENAMETOOLONG);
	text_copy(text + head, profile, n);
	err = write_label(attr, "apparmor/exec", text, head + n);
	if (err == -ENOENT)
		err = write_label(attr, "exec", text, head + n);
	child_must(STEP_LABEL, err);
}

/* child_labels names the labels that execve and the keyring shall get. Nothing of it takes effect before. */
void child_labels(const struct request *r)
{
	const char *selinux = request_at(r, r->selinux);
	long attr;

	if (r->apparmor.count == 0 && r->selinux.count == 0)
		return;
	attr = sys(SYS_openat, AT_FDCWD, "/proc/thread-self/attr", O_PATH | O_DIRECTORY | O_CLOEXEC);
	child_must(STEP_LABEL, attr);
	if (r->selinux.count != 0 && r->keyring.count != 0)
		child_must(STEP_LABEL, write_label(attr, "keycreate", selinux, text_length(selinux)));
	if (r->selinux.count != 0)
		child_must(STEP_LABEL, write_label(attr, "exec", selinux, text_length(selinux)));
	if (r->apparmor.count != 0)
		label_apparmor(attr, request_at(r, r->apparmor));
	/* It leads out of the container, and must be gone before a path of the container's is used. */
	sys(SYS_close, attr);
}
