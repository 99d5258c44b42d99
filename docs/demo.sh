#!/bin/bash
# The demo (`make demo`): every step is one `bellhop run`, which boots a machine, runs a process in a container, and ends.
set -u
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
check() { # NAME GOT WANT
  if [ "$2" = "$3" ]; then echo "ok     $1: $2"; else echo "FAILED $1: got $2, want $3"; failed=1; fi
}
bellhop() { build/bellhop run --rootfs "$work/rootfs" "$@"; }

step "A root file system: busybox and its links"
mkdir -p "$work"/rootfs/{bin,dev,etc,proc,sys,tmp,root}
cp /bin/busybox "$work/rootfs/bin/"
for applet in $(/bin/busybox --list); do ln -s busybox "$work/rootfs/bin/$applet" 2>/dev/null; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$work/rootfs/etc/passwd"
echo "$(ls "$work/rootfs/bin" | wc -l) programs, $(du -sh "$work/rootfs" | cut -f1)"

step "uname -a, in a container in a virtual machine"
bellhop -- uname -a || failed=1

step "64 MiB of random bytes through sha256sum in the container"
head -c 67108864 /dev/urandom >"$work/random"
want=$(sha256sum <"$work/random" | cut -d' ' -f1)
check "sum in the guest" "$(bellhop -i -- sha256sum <"$work/random" | cut -d' ' -f1)" "$want"

step "The same bytes through cat and back"
check "sum of what came back" "$(bellhop -i -- cat <"$work/random" | sha256sum | cut -d' ' -f1)" "$want"

step "Exit codes"
bellhop -- true
check "true" $? 0
bellhop -- sh -c 'exit 42'
check "exit 42" $? 42
echo 'int main(void) { *(volatile int *)0 = 1; }' | gcc -static -x c -o "$work/rootfs/bin/crash" -
bellhop -- crash
check "a crash, ended by SIGSEGV (128+11)" $? 139

step "A program that is not there"
bellhop -- /bin/no-such-program
check "not found" $? 127

step "When what happened"
bellhop --timeline -- echo "hello from the guest" || failed=1

echo
if [ $failed = 0 ]; then echo "All of it worked."; else echo "Something failed."; fi
exit $failed
