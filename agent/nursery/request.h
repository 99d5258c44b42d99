/*
 * What the agent and the nursery say to each other. Both run on one machine from one binary, so numbers are in its byte order and layouts are C's; the Go side uses these very
 * definitions through cgo.
 *
 * The agent sends one SOCK_SEQPACKET message per process: a struct request, and behind it the sections that its spans name. With it come file descriptors, in this order: the reply
 * socket, then one for each bit of request.files, lowest bit first. With FILE_CONFIG the message is the struct request alone, and the memfd holds struct and sections.
 *
 * The reply end is a pipe's write end, or, if a terminal is asked for, a SOCK_SEQPACKET socket. Only the child writes struct replies to it: REPLY_MASTER, and REPLY_FAILED if a step
 * fails. It is at its end of file when the nursery has closed its copy and the child has executed, or is dead. What the nursery has to say is in the ledger by then.
 */
#ifndef BELLHOP_NURSERY_REQUEST_H
#define BELLHOP_NURSERY_REQUEST_H

#include <stdint.h>

#define NURSERY_ARGV0 "bellhop-nursery" /* argv[0] of the nursery process, and also its name */

enum {
	NURSERY_SOCKET = 3, /* fd of the nursery's end of the request socket */
	NURSERY_LEDGER = 4, /* fd of the memfd that holds the ledger */
	NURSERY_EXE = 5,    /* fd of the binary that it is made from */
	LEDGER_ENTRIES = 256,

	REQUEST_MAGIC = 0x42484e31,
	REQUEST_INLINE_MAX = 32 << 10, /* bytes; a longer one comes in a memfd */
	REQUEST_MAX = 16 << 20,        /* bytes; the kernel takes at most 6 MiB of arguments and environment */
	REQUEST_FILES_MAX = 7,         /* the reply end and all bits of request.files */
};

/*
 * The ledger is an array of entries in memory shared with the agent, which clears the entry that a request names before it sends it. The kernel writes the pid inside clone3, before the
 * child can run. So when the nursery has died, at whatever moment, the agent knows which requests have become processes.
 */
struct entry {
	int32_t pid;   /* in the agent's pid namespace */
	int32_t error; /* errno of a step that failed in the nursery itself: there is no child */
	uint32_t step;
	uint32_t reserved;
};

enum files {
	FILE_CONFIG = 1 << 0,
	FILE_INIT = 1 << 1,
	FILE_CGROUP = 1 << 2,
	FILE_STDIN = 1 << 3,
	FILE_STDOUT = 1 << 4,
	FILE_STDERR = 1 << 5,
	FILE_ALL = (1 << 6) - 1,
};

enum flags {
	FLAG_TERMINAL = 1 << 0,
	FLAG_WINDOW = 1 << 1, /* columns and rows are set */
	FLAG_NO_NEW_PRIVS = 1 << 2,
	FLAG_CAPABILITIES = 1 << 3,
	FLAG_SCHEDULER = 1 << 4,
	FLAG_IOPRIO = 1 << 5,
	FLAG_PERSONALITY = 1 << 6,
	FLAG_MEMPOLICY = 1 << 7,
};

/* A span is a section of the message: its offset from the start of struct request, a multiple of 8, and the number of its items. An empty one has count 0. */
struct span {
	uint32_t off;
	uint32_t count;
};

struct limit {
	uint32_t resource;
	uint32_t reserved;
	uint64_t soft;
	uint64_t hard;
};

/* sched_setattr(2), SCHED_ATTR_SIZE_VER1 */
struct scheduler {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime;
	uint64_t deadline;
	uint64_t period;
	uint32_t util_min;
	uint32_t util_max;
};

struct request {
	uint32_t magic;
	uint32_t size;  /* of struct and sections, bytes */
	uint32_t entry; /* of the ledger */
	uint32_t reserved;
	uint32_t files;
	uint32_t flags;
	uint32_t namespaces; /* CLONE_NEW*: all kinds that this kernel has, but for the pid namespace */
	int32_t oom_score_adj;
	uint32_t uid;
	uint32_t gid;
	uint32_t umask;
	uint16_t columns;
	uint16_t rows;
	uint64_t bounding;
	uint64_t effective;
	uint64_t permitted;
	uint64_t inheritable;
	uint64_t ambient;
	struct scheduler scheduler;
	uint32_t ioprio;
	uint32_t personality;
	int32_t mempolicy;
	uint32_t seccomp_flags;
	struct span limits;   /* struct limit */
	struct span groups;   /* uint32_t */
	struct span seccomp;  /* struct sock_filter */
	struct span affinity; /* bytes, a multiple of 8 */
	struct span nodes;    /* bytes, a multiple of 8 */
	struct span cwd;      /* the following are strings, each ended by NUL: at most one */
	struct span keyring;
	struct span apparmor;
	struct span selinux;
	struct span paths; /* what to try to execute, in this order: at least one */
	struct span args;
	struct span env;
	struct span pointers; /* room for a char * for each of paths, args and env, and three NULLs */
};

enum reply_kind {
	REPLY_MASTER = 1, /* with one file descriptor */
	REPLY_FAILED = 2, /* value: errno; step; item: index of the path or limit */
};

struct reply {
	uint32_t kind;
	int32_t value;
	uint32_t step;
	uint32_t item;
};

/* The numbers of stepNames in steps.go. Keep both in the same order. */
enum step {
	STEP_REQUEST = 1,
	STEP_PID_NAMESPACE,
	STEP_OOM_SCORE,
	STEP_FORK,
	STEP_STDIO,
	STEP_RLIMIT,
	STEP_SCHEDULER,
	STEP_IO_PRIORITY,
	STEP_AFFINITY,
	STEP_LABEL,
	STEP_NAMESPACES,
	STEP_BECOME_ROOT,
	STEP_SESSION,
	STEP_KEYRING,
	STEP_TERMINAL,
	STEP_NO_NEW_PRIVS,
	STEP_PERSONALITY,
	STEP_MEMORY_POLICY,
	STEP_CWD,
	STEP_SECCOMP,
	STEP_BOUNDING,
	STEP_OWNER,
	STEP_GROUPS,
	STEP_GID,
	STEP_UID,
	STEP_CWD_OUTSIDE,
	STEP_CAPABILITIES,
	STEP_EXEC,
};

/*
 * request_check says whether the size bytes at r, aligned to 8, are a whole request whose spans all lie within it, whose strings all end, and whose sections do not overlap struct
 * request. It returns 0 or an errno.
 */
int request_check(const struct request *r, uint32_t size);

/* request_at gives the start of a section of a checked request. */
static inline void *request_at(const struct request *r, struct span s)
{
	return (char *)(uintptr_t)r + s.off;
}

#endif
