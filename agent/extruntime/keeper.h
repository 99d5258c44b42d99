/* What a keeper and the agent share: how it is started, and what it reports. */
#ifndef BELLHOP_EXTRUNTIME_KEEPER_H
#define BELLHOP_EXTRUNTIME_KEEPER_H

#include <stdint.h>

/*
 * The keeper's name, by which the binary knows to become one. Its arguments are the path of the file to which the command writes the pid of the process that it leaves, or "" if it leaves
 * none, and then the command: its absolute path and its arguments.
 */
#define KEEPER_ARGV0 "bellhop-keeper"

/* The keeper's file descriptors 0 to 2 are the command's. This one is a SOCK_SEQPACKET socket to the agent. */
#define KEEPER_SOCKET 3

/*
 * The events, in the order in which they come, each a message. KEEPER_FAILED may come before or in the place of any, and what follows it means nothing. KEEPER_COMMAND_ENDED is the last
 * if the command failed or leaves no process. An end of the socket before the last event means that the keeper is gone.
 */
enum keeper_kind {
	KEEPER_STARTED = 1,       /* the command runs; pid, with its pidfd */
	KEEPER_COMMAND_ENDED = 2, /* value is its wait status, wait(2) */
	KEEPER_ADOPTED = 3,       /* the process that it left is the keeper's child; pid, with its pidfd */
	KEEPER_ENDED = 4,         /* that process has ended and is reaped; value is its wait status */
	KEEPER_FAILED = 5,        /* value is an errno, step says where */
};

enum keeper_step {
	KEEPER_STEP_SETUP = 1,
	KEEPER_STEP_FORK = 2,
	KEEPER_STEP_EXEC = 3,     /* of the command */
	KEEPER_STEP_PID_FILE = 4, /* it names no child of the keeper's: ECHILD, or cannot be read */
	KEEPER_STEP_WAIT = 5,
};

struct keeper_event {
	uint32_t kind;
	int32_t pid;
	int32_t value;
	uint32_t step;
};

#endif
