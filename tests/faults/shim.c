// Makes one call of a process to the file system fail, kills the process at it, or slows it down.
//
// Loaded with LD_PRELOAD into `dissim` and the tasks that it starts. Calls that change something
// below FAULT_ROOT are counted over all processes, in a file that they share (FAULT_COUNTER). Call
// number FAULT_AT fails as FAULT_KIND says; with FAULT_STICKY every later one does too, as on a disk
// that is full. FAULT_LOG takes a line a call.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum kind { NONE, ENOSPC_, EIO_, EINTR_, EROFS_, SHORT, KILL, KILL_AFTER, SLOW };

static atomic_long *counter;
static const char *root;
static size_t root_length;
static long at;
static int sticky, log_to = -1;
static enum kind kind;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULT_COUNTER"), *k = getenv("FAULT_KIND");
    root = getenv("FAULT_ROOT");
    if (!file || !root) return;
    root_length = strlen(root);
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *shared = mmap(0, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) return;
    const char *names[] = {"none", "enospc", "eio", "eintr", "erofs", "short", "kill", "kill_after", "slow"};
    for (int i = 0; k && i < 9; i++) if (!strcmp(k, names[i])) kind = i;
    at = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
    sticky = getenv("FAULT_STICKY") != 0;
    if (getenv("FAULT_LOG"))
        log_to = syscall(SYS_openat, AT_FDCWD, getenv("FAULT_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    counter = shared;
}

static int below(const char *path) {
    return path && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

// Whether this call is the one.
static int meant(const char *call, const char *path) {
    if (!counter || !below(path)) return 0;
    long n = atomic_fetch_add(counter, 1) + 1;
    if (log_to >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", n, call, path + root_length);
        syscall(SYS_write, log_to, line, (size_t)length);
    }
    return at && (n == at || (sticky && n > at));
}

static int meant_fd(const char *call, int fd) {
    if (!counter) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return meant(call, path);
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

// What a call that can fail in all ways does when it is the one: -1 where it failed.
enum may { RETRIED = 1, READ_ONLY = 2 };
static int fails(enum may may) {
    switch (kind) {
    case KILL: die();
    case SLOW: nanosleep(&(struct timespec){0, 2000000}, 0); return 0;
    case ENOSPC_: errno = ENOSPC; return 1;
    case EIO_: errno = EIO; return 1;
    case EINTR_: errno = EINTR; return (may & RETRIED) != 0;
    case EROFS_: errno = EROFS; return (may & READ_ONLY) != 0;
    default: return 0;
    }
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)
#define CALL(is_meant, may, type, ...) \
    int one = is_meant; \
    if (one && fails(may)) return -1; \
    type result = real(__VA_ARGS__); \
    if (one && kind == KILL_AFTER) die(); \
    return result

#define OPEN(name) \
int name(const char *path, int flags, ...) { \
    REAL(int, name, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    int changes = (flags & O_ACCMODE) != O_RDONLY; \
    CALL(changes && meant("open", path), RETRIED | READ_ONLY, int, path, flags, mode); \
}
OPEN(open)
OPEN(open64)

static ssize_t shorter(int one, size_t n) { return one && kind == SHORT && n > 1 ? n / 2 : n; }

ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    CALL(meant_fd("write", fd), RETRIED, ssize_t, fd, bytes, (size_t)shorter(one, n));
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    CALL(meant_fd("copy", out), RETRIED, ssize_t, in, from, out, to, (size_t)shorter(one, n), flags);
}
int fsync(int fd) { REAL(int, fsync, int); CALL(meant_fd("fsync", fd), RETRIED, int, fd); }
int fdatasync(int fd) { REAL(int, fdatasync, int); CALL(meant_fd("fsync", fd), RETRIED, int, fd); }
int flock(int fd, int how) { REAL(int, flock, int, int); CALL(meant_fd("flock", fd), RETRIED, int, fd, how); }
int ftruncate64(int fd, off64_t n) { REAL(int, ftruncate64, int, off64_t); CALL(meant_fd("truncate", fd), RETRIED | READ_ONLY, int, fd, n); }
int fchmod(int fd, mode_t mode) { REAL(int, fchmod, int, mode_t); CALL(meant_fd("chmod", fd), READ_ONLY, int, fd, mode); }
int chmod(const char *path, mode_t mode) { REAL(int, chmod, const char *, mode_t); CALL(meant("chmod", path), READ_ONLY, int, path, mode); }
int mkdir(const char *path, mode_t mode) { REAL(int, mkdir, const char *, mode_t); CALL(meant("mkdir", path), READ_ONLY, int, path, mode); }
int rename(const char *from, const char *to) { REAL(int, rename, const char *, const char *); CALL(meant("rename", to), READ_ONLY, int, from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    CALL(meant("link", to), READ_ONLY, int, a, from, b, to, flags);
}
int unlink(const char *path) { REAL(int, unlink, const char *); CALL(meant("unlink", path), READ_ONLY, int, path); }
