/* Lets user-mode Linux 6.1 run on processors whose extended state is larger than it knows (AMX).
 *
 * It reads and writes a traced process's registers in a buffer of its own fixed size. Reading less
 * than there is is allowed, writing less is refused by the host's kernel. So what it writes is laid
 * over the whole state as it is. Nothing is lost: the state beyond the buffer is of registers that
 * a process may use only after it has asked its kernel, and that kernel is user-mode Linux.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long (*ptrace_call)(int request, pid_t pid, void *address, void *data);

static long write_whole(ptrace_call real, pid_t pid, const struct iovec *part)
{
	static char state[1 << 14] __attribute__((aligned(64)));
	struct iovec whole = {state, sizeof(state)};
	size_t len;

	if (real(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &whole) < 0)
		return -1;
	len = part->iov_len < whole.iov_len ? part->iov_len : whole.iov_len;
	memcpy(state, part->iov_base, len);
	return real(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_call real;
	va_list list;
	pid_t pid;
	void *address, *data;

	va_start(list, request);
	pid = va_arg(list, pid_t);
	address = va_arg(list, void *);
	data = va_arg(list, void *);
	va_end(list);
	if (!real)
		real = (ptrace_call)dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE)
		return write_whole(real, pid, data);
	return real(request, pid, address, data);
}
