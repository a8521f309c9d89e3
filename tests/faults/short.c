/* Preloaded by short.py: every write of more than one byte writes its first half only, and every third call of a kind that may
 * be interrupted is interrupted first. Both are within POSIX; a program that takes them for errors, or for success, is wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

static __thread unsigned calls;

static int interrupted(int fd) {
    if (fd > 2 && ++calls % 3 == 0) {
        errno = EINTR;
        return 1;
    }
    return 0;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (interrupted(fd)) return -1;
    return next(fd, bytes, fd > 2 && count > 1 ? count / 2 : count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) {
    static ssize_t (*next)(int, const void *, size_t, off_t);
    if (!next) next = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    if (interrupted(fd)) return -1;
    return next(fd, bytes, count > 1 ? count / 2 : count, at);
}

ssize_t read(int fd, void *bytes, size_t count) {
    static ssize_t (*next)(int, void *, size_t);
    if (!next) next = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (interrupted(fd)) return -1;
    return next(fd, bytes, fd > 2 && count > 1 ? count / 2 : count);
}

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return interrupted(fd) ? -1 : next(fd);
}
