#ifndef BELLHOP_MODULES_H
#define BELLHOP_MODULES_H

// bellhop_start_loading_modules forks a process that loads the modules of the
// initramfs, in their order and without a word. The caller reaps it, by and by.
void bellhop_start_loading_modules(void);

#endif
