/* Loaded into user-mode Linux 6.1, for two reasons.
 *
 * It reads and writes a traced process's registers in a buffer of its own fixed size, which is less
 * than the state of processors with AMX. Reading less than there is is allowed, writing less is
 * refused by the host's kernel. So what it writes is laid over the whole state as it is. Nothing is
 * lost: the state beyond the buffer is of registers that a process may use only after it has asked
 * its kernel, and that kernel is user-mode Linux.
 *
 * And it hands the processor from one process to another at each system call of a guest's program.
 * With a short slice of time the next one's turn comes soon, though others compute: on a machine
 * with ten of those that is ten times the speed. The share of the processor stays what it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* struct sched_attr of sched_setattr(2); an ordinary process's runtime is its slice since Linux 6.12,
 * and means nothing before. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

__attribute__((constructor)) static void shorten_slice(void)
{
	struct attributes a = {.size = sizeof(a), .policy = SCHED_OTHER, .runtime = 100 * 1000};

	a.nice = getpriority(PRIO_PROCESS, 0);
	/* Where it is refused, all is slower and nothing else. */
	syscall(SYS_sched_setattr, 0, &a, 0);
}

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
