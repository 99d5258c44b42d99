#ifndef BELLHOP_NURSERY_SLIM_H
#define BELLHOP_NURSERY_SLIM_H

#include <stddef.h>

/* slim keeps all of this process' memory from its children but its code, constants and stack, and the given variables. It is called before there is a child. */
void slim(const void *variables, size_t size);

#endif
