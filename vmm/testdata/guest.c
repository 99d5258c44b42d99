// A guest's /init for tests. The parameter mode=… of the kernel's command line,
// which the kernel hands to init as an environment variable, says what it does.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
  printf("guest: %s: %s\n", what, strerror(errno));
  reboot(RB_AUTOBOOT);
}

static void load_modules(void) {
  char path[4096];
  FILE *list = fopen("/etc/bellhop/modules", "re");
  if (!list)
    fail("module list");
  while (fgets(path, sizeof path, list)) {
    path[strcspn(path, "\n")] = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
      fail(path);
    close(fd);
  }
  fclose(list);
}

static void cat(const char *path) {
  char buf[4096];
  int fd = open(path, O_RDONLY);
  if (fd < 0)
    fail(path);
  ssize_t n;
  while ((n = read(fd, buf, sizeof buf)) > 0)
    fwrite(buf, 1, n, stdout);
  close(fd);
}

// Mounts the first disk and shows what is on it.
static void show_disk(void) {
  struct stat st;
  load_modules();
  mount("sysfs", "/sys", "sysfs", 0, 0);
  mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
  int readonly = getenv("ro") != 0;
  if (mount("/dev/vda", "/run", "ext4", readonly ? MS_RDONLY : 0, 0))
    fail("mount /dev/vda");
  printf("guest: serial ");
  cat("/sys/block/vda/serial");
  printf("\nguest: content ");
  cat("/run/etc/greeting");
  if (lstat("/run/bin/tool", &st))
    fail("/bin/tool");
  printf("guest: tool mode %o owner %u:%u\n", st.st_mode, st.st_uid, st.st_gid);
  int fd = open("/run/new", O_CREAT | O_WRONLY, 0644);
  printf("guest: write %s\n", fd < 0 ? strerror(errno) : "done");
}

static int dial_host(void) {
  struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 1025};
  int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (connect(fd, (void *)&host, sizeof host) == 0)
    return fd;
  close(fd);
  return -1;
}

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

// Tells the host how long 20,000,000 instructions take, in ns, and whether an
// answer of the host's comes within 3 s.
static void tell_time(void) {
  char buf[64];
  load_modules();
  int fd = dial_host();
  if (fd < 0)
    fail("connect");
  long long start = now();
  long turns = 10000000;
  __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(turns) : : "cc");
  dprintf(fd, "%lld\n", now() - start);
  struct pollfd answer = {.fd = fd, .events = POLLIN};
  dprintf(fd, "%s\n", poll(&answer, 1, 3000) == 1 ? "answered" : "timed out");
  read(fd, buf, sizeof buf); // until the host has read it all
}

// Says on the console when it is up, then echoes one connection after another.
static void echo(void) {
  static char buf[65536];
  load_modules();
  struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1024};
  int l = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (l < 0 || bind(l, (void *)&any, sizeof any) || listen(l, 8))
    fail("listen");
  int up = dial_host();
  if (up >= 0)
    write(up, "up", 2);
  close(up);
  for (;;) {
    int c = accept(l, 0, 0);
    ssize_t n;
    while ((n = read(c, buf, sizeof buf)) > 0)
      for (ssize_t off = 0, w; off < n; off += w)
        if ((w = write(c, buf + off, n - off)) < 0)
          break;
    close(c);
  }
}

int main(void) {
  const char *mode = getenv("mode");
  setvbuf(stdout, 0, _IONBF, 0);
  if (!mode || !strcmp(mode, "poweroff")) {
    puts("guest: hello");
  } else if (!strcmp(mode, "panic")) {
    return 3;
  } else if (!strcmp(mode, "reboot")) {
    reboot(RB_AUTOBOOT);
  } else if (!strcmp(mode, "hang")) {
    puts("guest: hanging");
    for (;;)
      pause();
  } else if (!strcmp(mode, "flood")) {
    for (;;)
      puts("guest: the quick brown fox jumps over the lazy dog, again and again and again");
  } else if (!strcmp(mode, "disk")) {
    show_disk();
  } else if (!strcmp(mode, "modules")) {
    load_modules();
    puts("guest: modules loaded");
  } else if (!strcmp(mode, "echo")) {
    echo();
  } else if (!strcmp(mode, "time")) {
    tell_time();
  }
  reboot(RB_POWER_OFF);
}
