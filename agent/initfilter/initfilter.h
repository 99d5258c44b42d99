#ifndef BELLHOP_INITFILTER_H
#define BELLHOP_INITFILTER_H

#include <linux/filter.h>
#include <stdint.h>

/* What is sent: this, and behind it count instructions. What comes back is an int32_t: 0, or the errno of seccomp(2). */
struct initfilter_order {
	uint32_t flags; /* of seccomp(2) */
	uint32_t count; /* at most BPF_MAXINSNS */
};

/* initfilter_listen starts the thread that waits for an order on the socket, and gives 0 or an errno. */
int initfilter_listen(int socket);

#endif
