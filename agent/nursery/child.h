/* What the nursery's child does before it executes its program. All of this runs in the child only. */
#ifndef BELLHOP_NURSERY_CHILD_H
#define BELLHOP_NURSERY_CHILD_H

#include "request.h"

/* Where the child keeps what it was given. All other file descriptors are closed first. */
enum {
	CHILD_REPLY = 3,
	CHILD_INIT = 4,
	CHILD_OTHERS = 5,
};

/* Files of the child as the nursery received them, all at least CHILD_OTHERS, or -1. */
struct child_files {
	int reply;
	int init;
	int stdio[3];
};

/* child_main ends in the program's execution or in a report of the step that failed. */
_Noreturn void child_main(struct request *r, const struct child_files *files);

/* child_fail reports a failed step with its negative errno and ends the child. Item is the index of the path or limit, or 0. */
_Noreturn void child_fail(enum step step, uint32_t item, long error);

/* child_must fails a step if the result of a system call is an error. */
static inline void child_must(enum step step, long result)
{
	if (result < 0)
		child_fail(step, 0, result);
}

/* Each of the following does its part of the request, or fails its step. */

/* files.c */
void child_stdio(const struct child_files *files); /* fds 0 to 4 are in place, all others closed */
void child_null(const struct request *r);          /* stdio that is not given becomes the container's own /dev/null */
void child_owner(const struct request *r);
void child_close(void); /* all but stdio and the reply end */

/* terminal.c */
void child_terminal(const struct request *r);

/* cwd.c: child_cwd returns 0 if the directory is to be tried again as the user, by child_cwd_user. */
int child_cwd(const struct request *r);
void child_cwd_user(const struct request *r);
void child_cwd_check(void);

/* privilege.c */
void child_bounding(const struct request *r);
void child_identity(const struct request *r);
void child_capabilities(const struct request *r);
void child_seccomp(const struct request *r);

/* resources.c: what needs privilege in the first user namespace */
void child_limits(const struct request *r);
void child_limits_final(const struct request *r);
void child_scheduling(const struct request *r);
void child_labels(const struct request *r);

#endif
