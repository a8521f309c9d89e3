/* Preloaded into a node, this kills it with SIGKILL right before its n-th effect: a write or flush of a file, a rename,
   or bytes sent to a socket, counted over all threads. The file that SHUYU_KILL_PLAN names holds n and the count, two
   64-bit numbers, and may be changed while the node runs; n = 0 counts and kills nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct plan {
    _Atomic uint64_t kill_at, effects;
};
static struct plan *plan;

__attribute__((constructor)) static void open_plan(void) {
    const char *path = getenv("SHUYU_KILL_PLAN");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) plan = at;
}

static void effect(void) {
    if (!plan) return;
    uint64_t count = atomic_fetch_add(&plan->effects, 1) + 1;
    if (count == atomic_load(&plan->kill_at)) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
}

#define BEFORE(result, name, parameters, arguments, counts)       \
    result name parameters {                                      \
        static result(*next) parameters;                          \
        if (!next) next = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        if (counts) effect();                                     \
        return next arguments;                                    \
    }

/* Eight bytes to an eventfd only wake a thread; 1 and 2 are the log. */
BEFORE(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), fd > 2 && n != 8)
BEFORE(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), fd > 2)
BEFORE(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t at), (fd, b, n, at), 1)
BEFORE(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t at), (fd, b, n, at), 1)
BEFORE(ssize_t, send, (int fd, const void *b, size_t n, int f), (fd, b, n, f), 1)
BEFORE(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f), (fd, m, f), 1)
BEFORE(int, fsync, (int fd), (fd), 1)
BEFORE(int, fdatasync, (int fd), (fd), 1)
BEFORE(int, rename, (const char *from, const char *to), (from, to), 1)
