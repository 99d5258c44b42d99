// What the test guest spawns.
//
//	child orphans CODE N   leave N grandchildren behind that end later, exit with CODE
//	child stubborn         ignore every signal that can be ignored, and stay
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void leave_orphan(void)
{
	if (fork() == 0) {
		// A child of the orphan's own, so that some become orphans twice.
		if (fork() == 0)
			usleep(2000);
		_exit(7);
	}
}

static void stubborn(void)
{
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_IGN);
	write(1, "x", 1);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "stubborn") == 0)
		stubborn();
	if (argc < 4)
		return 99;
	for (int i = atoi(argv[3]); i > 0; i--)
		leave_orphan();
	return atoi(argv[2]);
}
