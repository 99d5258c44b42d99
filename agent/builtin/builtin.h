/* What the built-in programs and the agent share: how they are started, and what the init reports. */
#ifndef BELLHOP_BUILTIN_H
#define BELLHOP_BUILTIN_H

/*
 * A container's process executes this to become one of the programs: what libcontainer's init runs is the agent's binary, sealed, so that the container can do nothing to it. The first
 * argument names the program.
 */
#define BUILTIN_EXE "/proc/self/exe"
#define BUILTIN_INIT "bellhop-init"   /* followed by the program to run, which is looked up in PATH, and its arguments */
#define BUILTIN_PAUSE "bellhop-pause"

/*
 * File descriptors beside 0 to 2, which are the program's. The report is closed when the process is ready, which for the init is when the program is executed; if it cannot be, "errno N" is
 * written to it. To the status the init writes the program's wait status, wait(2), as an int.
 */
#define BUILTIN_STATUS 4
#define BUILTIN_REPORT 5

#endif
