#ifndef BELLHOP_DISKS_H
#define BELLHOP_DISKS_H

// bellhop_release_disks writes everything to the disks and unmounts them, in a
// child process that it waits for, for a bounded time: a disk that hangs must
// not keep the machine from ending. No other process may run any more, and
// SIGCHLD must be blocked. 0 is success; -1 means that time ran out.
int bellhop_release_disks(void);

#endif
