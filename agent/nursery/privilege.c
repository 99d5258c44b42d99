#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"

void child_bounding(const struct request *r)
{
	unsigned int cap;

	if ((r->flags & FLAG_CAPABILITIES) == 0)
		return;
	for (cap = 0; cap < 64; cap++) {
		if ((r->bounding >> cap & 1) != 0)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) {
			if (errno == EINVAL)
				break; /* the kernel has no capability of this number or above */
			child_fail(STEP_BOUNDING, cap);
		}
	}
}

/* child_identity changes groups, gid and uid. Permitted capabilities are kept over it until child_capabilities. */
void child_identity(const struct request *r)
{
	if ((r->flags & FLAG_CAPABILITIES) != 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
		child_fail(STEP_CAPABILITIES, 0);
	/* The nursery has no supplementary groups; a user namespace may forbid to set them (EPERM), and then to set none is no loss. */
	if (syscall(SYS_setgroups, r->groups.count, request_at(r, r->groups)) != 0 && (r->groups.count != 0 || errno != EPERM))
		child_fail(STEP_GROUPS, 0);
	if (syscall(SYS_setresgid, r->gid, r->gid, r->gid) != 0)
		child_fail(STEP_GID, 0);
	if (syscall(SYS_setresuid, r->uid, r->uid, r->uid) != 0)
		child_fail(STEP_UID, 0);
}

void child_capabilities(const struct request *r)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)r->effective, (uint32_t)r->permitted, (uint32_t)r->inheritable },
		{ r->effective >> 32, r->permitted >> 32, r->inheritable >> 32 },
	};
	unsigned int cap;

	if ((r->flags & FLAG_CAPABILITIES) == 0)
		return;
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0 || syscall(SYS_capset, &head, data) != 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
		child_fail(STEP_CAPABILITIES, 0);
	for (cap = 0; cap < 64; cap++)
		if ((r->ambient >> cap & 1) != 0)
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0); /* may fail: only what is permitted and inheritable can be raised */
}

void child_seccomp(const struct request *r)
{
	struct sock_fprog program = { .len = r->seccomp.count, .filter = request_at(r, r->seccomp) };

	if (r->seccomp.count == 0)
		return;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, r->seccomp_flags, &program) != 0)
		child_fail(STEP_SECCOMP, 0);
}
