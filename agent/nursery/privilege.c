#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>

#include "child.h"
#include "sys.h"

void child_bounding(const struct request *r)
{
	unsigned int cap;
	long err;

	if ((r->flags & FLAG_CAPABILITIES) == 0)
		return;
	for (cap = 0; cap < 64; cap++) {
		if ((r->bounding >> cap & 1) != 0)
			continue;
		err = sys(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0);
		if (err == -EINVAL)
			return; /* the kernel has no capability of this number or above */
		child_must(STEP_BOUNDING, err);
	}
}

/* child_identity changes groups, gid and uid. Permitted capabilities are kept over it until child_capabilities. */
void child_identity(const struct request *r)
{
	long err;

	if ((r->flags & FLAG_CAPABILITIES) != 0)
		child_must(STEP_CAPABILITIES, sys(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0));
	err = sys(SYS_setgroups, r->groups.count, request_at(r, r->groups));
	/* A user namespace may forbid to set groups. The nursery has no supplementary ones, so then to set none is no loss. */
	if (err != -EPERM || r->groups.count != 0)
		child_must(STEP_GROUPS, err);
	child_must(STEP_GID, sys(SYS_setresgid, r->gid, r->gid, r->gid));
	child_must(STEP_UID, sys(SYS_setresuid, r->uid, r->uid, r->uid));
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
	child_must(STEP_CAPABILITIES, sys(SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0));
	child_must(STEP_CAPABILITIES, sys(SYS_capset, &head, data));
	child_must(STEP_CAPABILITIES, sys(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	for (cap = 0; cap < 64; cap++)
		if ((r->ambient >> cap & 1) != 0)
			sys(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0); /* may fail: only what is permitted and inheritable can be raised */
}

void child_seccomp(const struct request *r)
{
	struct sock_fprog program = { .len = r->seccomp.count, .filter = request_at(r, r->seccomp) };

	if (r->seccomp.count != 0)
		child_must(STEP_SECCOMP, sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, r->seccomp_flags, &program));
}
