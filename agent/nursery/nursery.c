/*
 * The nursery: a process made from the agent's binary that becomes this program before libc's main and the Go runtime start. It allocates nothing, so that it stays small and a fork of
 * it cheap, and it holds no state between requests but the pid namespace that its next child goes to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "request.h"
#include "slim.h"
#include "sys.h"

enum {
	EXIT_ORPHAN = 0, /* the agent has closed its end */
	EXIT_SETUP = 70,
	EXIT_PROTOCOL = 71,
};

/* An order is one request as received. */
struct order {
	struct request *request;
	uint32_t size;
	void *mapping; /* of a request in a memfd, or NULL */
	int count;     /* of files */
	int files[REQUEST_FILES_MAX];
};

/* All variables that a child needs are here, so that slim can leave the others out. */
static struct {
	char buffer[REQUEST_INLINE_MAX];
	struct entry *ledger;
	int own;   /* pidfd of this process, by which it comes back to its own pid namespace */
	int away;  /* children go to another pid namespace */
	int score; /* fd of this process' oom_score_adj */
	int own_score;
} self __attribute__((aligned(4096)));

static void setup_signals(void)
{
	struct sigaction act = { .sa_handler = SIG_DFL };
	sigset_t none;
	int sig;

	for (sig = 1; sig < NSIG; sig++)
		sigaction(sig, &act, NULL); /* fails for SIGKILL, SIGSTOP and libc's own, which are as they should be */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* setup_affinity forgets the agent's: the kernel cuts the mask down to the CPUs of the cgroup. */
static void setup_affinity(void)
{
	unsigned char all[8192];

	memset(all, 0xff, sizeof all);
	syscall(SYS_sched_setaffinity, 0, sizeof all, all);
}

/* setup_score opens this process' oom score. To write it around a fork is far cheaper than to let the child look up its own /proc. */
static void setup_score(void)
{
	char text[16] = { 0 };

	self.score = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	if (self.score < 0 || read(self.score, text, sizeof text - 1) <= 0)
		_exit(EXIT_SETUP);
	self.own_score = atoi(text);
}

/* setup gives the process what its children shall inherit, and nothing else. Fds 0 to 2 are /dev/null from the start. */
static void setup(void)
{
	/* Nobody but real root may trace or inspect this process and its children before they execute, and their /proc files belong to root. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		_exit(EXIT_SETUP);
	prctl(PR_SET_NAME, NURSERY_ARGV0, 0, 0, 0);
	setup_signals();
	setup_affinity();
	umask(022);
	self.ledger = mmap(NULL, LEDGER_ENTRIES * sizeof *self.ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, NURSERY_LEDGER, 0);
	if (self.ledger == MAP_FAILED || madvise(self.ledger, LEDGER_ENTRIES * sizeof *self.ledger, MADV_DONTFORK) != 0 || chdir("/") != 0 || syscall(SYS_setgroups, 0, NULL) != 0)
		_exit(EXIT_SETUP);
	if (syscall(SYS_close_range, NURSERY_LEDGER, ~0U, 0) != 0)
		_exit(EXIT_SETUP);
	self.own = syscall(SYS_pidfd_open, getpid(), 0); /* close-on-exec by itself */
	if (self.own < 0)
		_exit(EXIT_SETUP);
	setup_score();
	slim(&self, sizeof self);
}

/* take_files collects the file descriptors of a message. */
static void take_files(struct msghdr *msg, struct order *o)
{
	struct cmsghdr *c;
	size_t n;

	o->count = 0;
	for (c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(o->files, CMSG_DATA(c), n * sizeof(int));
		o->count = n;
	}
}

/* receive waits for the next message. The agent's death, or a message that is none, ends the process. */
static void receive(struct order *o)
{
	char control[CMSG_SPACE(sizeof(int) * REQUEST_FILES_MAX)] __attribute__((aligned(8)));
	struct iovec iov = { .iov_base = self.buffer, .iov_len = sizeof self.buffer };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	ssize_t n;

	do
		n = recvmsg(NURSERY_SOCKET, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		_exit(EXIT_ORPHAN);
	if (n < (ssize_t)sizeof(struct request) || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
		_exit(EXIT_PROTOCOL);
	take_files(&msg, o);
	o->request = (struct request *)self.buffer;
	o->size = n;
	o->mapping = NULL;
	if (o->count != 1 + __builtin_popcount(o->request->files & FILE_ALL))
		_exit(EXIT_PROTOCOL);
}

/* map replaces the request by the whole one, which is in a memfd. It returns 0 or an errno. */
static int map(struct order *o)
{
	struct stat st;
	void *p;

	if ((o->request->files & FILE_CONFIG) == 0)
		return 0;
	if (fstat(o->files[1], &st) != 0)
		return errno;
	if (st.st_size < (off_t)sizeof(struct request) || st.st_size > REQUEST_MAX)
		return EPROTO;
	/* Private: the child writes its pointers into it. */
	p = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, o->files[1], 0);
	if (p == MAP_FAILED)
		return errno;
	o->request = o->mapping = p;
	o->size = st.st_size;
	return 0;
}

/* file gives the file descriptor of one bit of request.files, or -1. */
static int file(const struct order *o, uint32_t bit)
{
	uint32_t files = o->request->files;

	if ((files & bit) == 0)
		return -1;
	return o->files[1 + __builtin_popcount(files & (bit - 1))];
}

/* refuse notes that a request has failed before there was a child. The agent looks when it sees the end of the reply. */
static void refuse(const struct order *o, int err, uint32_t step)
{
	struct entry *e = &self.ledger[o->request->entry % LEDGER_ENTRIES];

	e->step = step;
	__atomic_store_n(&e->error, err, __ATOMIC_RELEASE);
}

/* set_score sets the oom score that the next child inherits. It returns 0 or an errno. */
static int set_score(int adj)
{
	char text[16];
	int n = snprintf(text, sizeof text, "%d", adj);

	return pwrite(self.score, text, n, 0) == n ? 0 : errno;
}

/* aim makes the pid namespace of the container, or this process' own, that of the next child. It returns 0 or an errno. */
static int aim(int init)
{
	if (init < 0 && !self.away)
		return 0;
	if (setns(init < 0 ? self.own : init, CLONE_NEWPID) != 0)
		return errno;
	self.away = init >= 0;
	return 0;
}

/*
 * fork_child forks the agent's child. CLONE_PARENT allows no exit signal of the child's own. Not CLONE_VFORK: a child in a frozen cgroup must stop nobody, and the agent must learn its pid
 * at once.
 */
static long fork_child(struct entry *e, int cgroup)
{
	struct clone_args args = {
		.flags = CLONE_PARENT | CLONE_PARENT_SETTID | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.parent_tid = (uintptr_t)&e->pid,
		.cgroup = cgroup >= 0 ? cgroup : 0,
	};

	return sys(SYS_clone3, &args, sizeof args);
}

/* make forks the child of a checked request. */
static void make(const struct order *o)
{
	struct request *r = o->request;
	struct child_files files = { .reply = o->files[0], .init = file(o, FILE_INIT), .stdio = { file(o, FILE_STDIN), file(o, FILE_STDOUT), file(o, FILE_STDERR) } };
	int foreign = r->oom_score_adj != self.own_score;
	long pid;
	int err = aim(files.init);

	if (err != 0) {
		refuse(o, err, STEP_PID_NAMESPACE);
		return;
	}
	err = foreign ? set_score(r->oom_score_adj) : 0;
	if (err != 0) {
		refuse(o, err, STEP_OOM_SCORE);
		return;
	}
	pid = fork_child(&self.ledger[r->entry], file(o, FILE_CGROUP));
	if (pid == 0)
		child_main(r, &files);
	if (pid < 0)
		refuse(o, -pid, STEP_FORK);
	if (foreign)
		set_score(self.own_score);
}

/* fulfil makes the process that a request asks for. */
static void fulfil(struct order *o)
{
	int err = map(o);

	if (err == 0)
		err = request_check(o->request, o->size);
	if (err != 0)
		refuse(o, err, STEP_REQUEST);
	else
		make(o);
}

/* forget closes and wipes what belongs to a request, which the next child must not inherit: a container may see that child's memory and files before it executes. */
static void forget(struct order *o, uint32_t received)
{
	int i;

	for (i = 0; i < o->count; i++)
		close(o->files[i]);
	if (o->mapping != NULL)
		munmap(o->mapping, o->size);
	explicit_bzero(self.buffer, received);
}

static _Noreturn void nursery_main(void)
{
	struct order o;
	uint32_t received;

	setup();
	for (;;) {
		receive(&o);
		received = o.size;
		fulfil(&o);
		forget(&o, received);
	}
}

/* Runs in every process of this binary, before main. A lower number runs earlier; 100 and below belong to the C implementation. */
__attribute__((constructor(101))) static void nursery_constructor(int argc, char **argv)
{
	if (argc == 1 && strcmp(argv[0], NURSERY_ARGV0) == 0)
		nursery_main();
}
