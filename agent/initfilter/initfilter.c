/* The thread in libcontainer's init that puts a filter on all threads of it. It runs no Go. */
#define _GNU_SOURCE
#include "initfilter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK (64 * 1024)

static int listener = -1;
static struct sock_filter program[BPF_MAXINSNS];

static int receive(void *to, size_t size)
{
	char *at = to;
	ssize_t n;

	for (; size > 0; at += n, size -= n) {
		n = read(listener, at, size);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return 0;
	}
	return 1;
}

static int32_t install(const struct initfilter_order *order)
{
	struct sock_fprog filter = {.len = order->count, .filter = program};
	long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, order->flags | SECCOMP_FILTER_FLAG_TSYNC, &filter);

	if (rc < 0)
		return errno;
	return rc == 0 ? 0 : ESRCH; /* the thread rc has a filter of its own */
}

/* serve is the thread. */
static void *serve(void *unused)
{
	struct initfilter_order order;
	int32_t reply;

	(void)unused;
	if (!receive(&order, sizeof order) || order.count > BPF_MAXINSNS || !receive(program, order.count * sizeof program[0]))
		return NULL; /* nobody is there any more */
	reply = install(&order);
	if (write(listener, &reply, sizeof reply) < 0)
		return NULL;
	return NULL;
}

static int start_thread(void)
{
	pthread_attr_t attr;
	sigset_t all, before;
	pthread_t thread;
	int err;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the Go runtime's threads */
	err = pthread_create(&thread, &attr, serve, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return err;
}

/*
 * To install a filter takes CAP_SYS_ADMIN, or no_new_privs, which a container need not have; so the thread keeps its capabilities where libcontainer gives up the user of the whole process.
 * They are a thread's own, and go with it; it has the bit for that from its first instruction on, from the thread that starts it.
 */
int initfilter_listen(int socket)
{
	int bits = prctl(PR_GET_SECUREBITS);
	int err;

	listener = socket;
	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0)
		return errno;
	err = start_thread();
	if (prctl(PR_SET_SECUREBITS, bits) < 0 && err == 0)
		err = errno;
	return err;
}
