// The end of the file systems. What is unmounted is clean on its disk, which a
// mere sync(2) does not achieve.

#define _GNU_SOURCE
#include "disks.h"

#include <errno.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// How long the disks may take. What a slow one has to write may be the whole
// page cache.
#define RELEASE_SECONDS 30

// The mount points, oldest first. Nothing here is ever freed: the process that
// reads them is about to end.
struct mounts {
	char **dirs;
	size_t count;
};

static struct mounts read_mounts(FILE *file)
{
	static char line[16 << 10]; // an overlay's has many paths in it
	struct mounts m = { 0 };
	struct mntent entry;

	rewind(file);
	while (getmntent_r(file, &entry, line, sizeof(line)) != NULL) {
		char **more = realloc(m.dirs, (m.count + 1) * sizeof(*more));

		if (more == NULL)
			break;
		m.dirs = more;
		if ((m.dirs[m.count] = strdup(entry.mnt_dir)) != NULL)
			m.count++;
	}
	return m;
}

// unmount_all goes from the newest mount to the oldest, since what is mounted in
// another one is younger. It returns how many it has unmounted. The kernel's own
// file systems go too, except those that are in use: /dev for the console and
// /proc for file. (For the root umount(2) would do nothing, successfully.)
static int unmount_all(FILE *file)
{
	struct mounts m = read_mounts(file);
	int done = 0;

	for (size_t i = m.count; i-- > 0;)
		if (strcmp(m.dirs[i], "/") != 0)
			done += umount2(m.dirs[i], UMOUNT_NOFOLLOW) == 0;
	return done;
}

// protect_rest makes what could not be unmounted read-only.
static void protect_rest(FILE *file)
{
	struct mounts m = read_mounts(file);

	for (size_t i = m.count; i-- > 0;)
		if (mount(NULL, m.dirs[i], NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
			dprintf(2, "bellhop-init: %s stays mounted: %s\n", m.dirs[i], strerror(errno));
}

static void release(void)
{
	FILE *file = setmntent("/proc/self/mounts", "re");

	sync(); // first, and for a guest without /proc alone
	if (file == NULL)
		return;
	while (unmount_all(file) > 0)
		; // a mount that was moved may be younger than what it holds
	protect_rest(file);
}

// await waits for the child until the deadline passes.
static int await(pid_t child)
{
	const struct timespec step = { .tv_nsec = 100000000 };
	struct timespec now;
	time_t deadline;
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	clock_gettime(CLOCK_BOOTTIME, &now);
	deadline = now.tv_sec + RELEASE_SECONDS;
	while (waitpid(child, NULL, WNOHANG) == 0) {
		if (now.tv_sec >= deadline)
			return -1;
		sigtimedwait(&chld, NULL, &step);
		clock_gettime(CLOCK_BOOTTIME, &now);
	}
	return 0;
}

int bellhop_release_disks(void)
{
	pid_t child = fork();

	if (child == 0) {
		release();
		_exit(0);
	}
	if (child < 0) {
		sync();
		return 0;
	}
	return await(child);
}
