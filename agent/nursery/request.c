#include "request.h"

#include <errno.h>
#include <linux/filter.h>
#include <string.h>

/* inside says whether the span's items of the given size lie behind the struct and within size bytes. */
static int inside(struct span s, uint32_t item, uint32_t size)
{
	if (s.count == 0)
		return 1;
	if (s.off % 8 != 0 || s.off < sizeof(struct request) || s.off > size)
		return 0;
	return s.count <= (size - s.off) / item;
}

/* strings says whether the span's strings all end within size bytes. */
static int strings(const struct request *r, struct span s, uint32_t size)
{
	const char *p, *end = (const char *)r + size;
	uint32_t i;

	if (!inside(s, 1, size))
		return 0;
	p = request_at(r, s);
	for (i = 0; i < s.count; i++) {
		p = memchr(p, 0, end - p);
		if (p == NULL)
			return 0;
		p++;
	}
	return 1;
}

/* pointers says whether there is room for the pointers to all strings, which the child will write there. */
static int pointers(const struct request *r, uint32_t size)
{
	uint64_t need = (uint64_t)r->paths.count + r->args.count + r->env.count + 3;

	return r->pointers.count == need && inside(r->pointers, sizeof(char *), size);
}

int request_check(const struct request *r, uint32_t size)
{
	if (size < sizeof *r || size > REQUEST_MAX || r->magic != REQUEST_MAGIC || r->size != size || r->entry >= LEDGER_ENTRIES)
		return EPROTO;
	if ((r->files & ~FILE_ALL) != 0 || r->paths.count == 0 || r->args.count == 0)
		return EPROTO;
	if (r->cwd.count > 1 || r->keyring.count > 1 || r->apparmor.count > 1 || r->selinux.count > 1)
		return EPROTO;
	if (!inside(r->limits, sizeof(struct limit), size) || !inside(r->groups, sizeof(uint32_t), size) || !inside(r->affinity, 1, size) || !inside(r->nodes, 1, size))
		return EPROTO;
	if (!inside(r->seccomp, sizeof(struct sock_filter), size) || r->seccomp.count > BPF_MAXINSNS)
		return EPROTO;
	if (!strings(r, r->cwd, size) || !strings(r, r->keyring, size) || !strings(r, r->apparmor, size) || !strings(r, r->selinux, size))
		return EPROTO;
	if (!strings(r, r->paths, size) || !strings(r, r->args, size) || !strings(r, r->env, size) || !pointers(r, size))
		return EPROTO;
	return 0;
}
