#ifndef BELLHOP_PID1_H
#define BELLHOP_PID1_H

#include <stdint.h>

// What PID 1 does when the agent is gone.
enum bellhop_ending {
	BELLHOP_POWER_OFF = 0,
	BELLHOP_REBOOT = 1,
};

// The agent's exit status that asks PID 1 for a reboot. Every other status, and
// every signal, leads to shared->ending.
#define BELLHOP_EXIT_REBOOT 64

// A page that PID 1 and the agent share. PID 1 writes start_ns before it forks;
// the agent may write ending at any time.
struct bellhop_shared {
	int64_t start_ns; // CLOCK_BOOTTIME at PID 1's first instruction
	volatile int32_t ending;
};

// Not NULL in exactly one process: the agent that PID 1 forked.
extern struct bellhop_shared *bellhop_pid1_shared;

#endif
