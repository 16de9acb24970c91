/* Using up what the machine has. None goes far beyond the limit that the test set: that is broken enough. */
#include "attack.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <time.h>

enum { CHILDREN_MAX = 4096, MEBIBYTE = 1 << 20, SECONDS_ENOUGH = 5 };

static pid_t children[CHILDREN_MAX];

static void end_children(int count) {
    for (int at = 0; at < count; at++) kill(children[at], SIGKILL);
    while (wait(NULL) > 0) {}
}

static void forks(const char *unused) {
    (void)unused;
    int count = 0, allowed = victim_number("PROCESSES");
    for (; count < CHILDREN_MAX && count < 4 * allowed; count++) {
        children[count] = fork();
        if (children[count] == 0) { pause(); _exit(0); }
        if (children[count] < 0) {
            int why = errno;
            end_children(count);
            if (count > allowed) broken("%d, then %s", count, strerror(why));
            held("%d, then %s", count, strerror(why));
        }
    }
    end_children(count);
    broken("%d", count);
}

static int stays(void *unused) { (void)unused; pause(); return 0; }

static void threads(const char *unused) {
    (void)unused;
    int allowed = victim_number("PROCESSES");
    for (int count = 0; count < 4 * allowed; count++) {
        char *stack = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED) abort();
        int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
        if (clone(stays, stack + 16384, flags, NULL) < 0) {
            if (count > allowed) broken("%d, then %s", count, strerror(errno));
            held("%d, then %s", count, strerror(errno));
        }
    }
    broken("%d", 4 * allowed);
}

/* Bytes that are four times the limit. */
static size_t too_much(void) { return (size_t)victim_number("MEMORY") * 4 * MEBIBYTE; }

/* Done in a child, which the kernel may kill; where it is not, the watcher has time to see what is held. */
static void hog(void (*takes)(size_t), int count) {
    int status, killed = 0, refused = 0;
    for (int at = 0; at < count; at++) {
        pid_t child = fork();
        if (child < 0) held("no more processes");
        if (child == 0) { takes(too_much() / count); sleep(3); _exit(0); }
    }
    while (wait(&status) > 0) {
        killed += WIFSIGNALED(status);
        refused += WIFEXITED(status) && WEXITSTATUS(status) == 1;
    }
    if (killed) held("killed: %d of %d", killed, count);
    if (refused) held("refused");
    broken("%zu MiB were had", too_much() / MEBIBYTE);
}

static void takes_memory(size_t bytes) {
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) _exit(1);
    for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
}

static void fills(int file, size_t bytes) {
    static char block[MEBIBYTE];
    memset(block, 1, sizeof block);
    for (size_t at = 0; at < bytes; at += sizeof block)
        if (write(file, block, sizeof block) < 0) _exit(1);
}

static void takes_memory_file(size_t bytes) { fills(memfd_create("hog", 0), bytes); }

static void takes_shared_file(size_t bytes) {
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/hog-%d", getpid());
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    unlink(path);
    fills(file, bytes);
}

static void takes_segment(size_t bytes) {
    int segment = shmget(IPC_PRIVATE, bytes, IPC_CREAT | 0600);
    char *memory = segment < 0 ? (void *)-1 : shmat(segment, NULL, 0);
    if (memory == (void *)-1) _exit(1);
    shmctl(segment, IPC_RMID, NULL);
    for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
}

static void takes_locked(size_t bytes) {
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mlock(memory, bytes) < 0) _exit(1);
}

static void one_hog(const char *unused) { (void)unused; hog(takes_memory, 1); }
static void many_hogs(const char *unused) { (void)unused; hog(takes_memory, 8); }
static void memory_file_hog(const char *unused) { (void)unused; hog(takes_memory_file, 1); }
static void segment_hog(const char *unused) { (void)unused; hog(takes_segment, 1); }
static void locked_hog(const char *unused) { (void)unused; hog(takes_locked, 1); }

/* Bounded by the file system's own size, 256 MiB, or by the memory of the job. */
static void shared_files(const char *unused) {
    (void)unused;
    int status;
    pid_t child = fork();
    if (child == 0) { takes_shared_file((size_t)300 * MEBIBYTE); _exit(0); }
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) held("killed");
    if (WEXITSTATUS(status) == 1) held("it is full");
    broken("300 MiB were had");
}

static void many_files(const char *folder) {
    char path[128];
    time_t end = time(NULL) + SECONDS_ENOUGH;
    for (int count = 0; count < 200000; count++) {
        if (count > 20000 && time(NULL) >= end) broken("%d files, and no end", count);
        snprintf(path, sizeof path, "%s/%d", folder, count);
        int file = open(path, O_CREAT | O_WRONLY, 0600);
        if (file < 0) {
            int why = errno;
            for (int made = 0; made < count; made++) {
                snprintf(path, sizeof path, "%s/%d", folder, made);
                unlink(path);
            }
            errno = why;
            if (why == ENOSPC) held("after %d: %s", count, strerror(errno));
            refused_path(-1);
        }
        close(file);
    }
    broken("200000 files");
}

static void open_files(const char *unused) {
    (void)unused;
    struct rlimit limit = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0) broken("the limit is a million now");
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max > 65536) broken("%lu", (unsigned long)limit.rlim_max);
    held("at most %lu", (unsigned long)limit.rlim_max);
}

static void core_files(const char *unused) {
    (void)unused;
    struct rlimit limit = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_CORE, &limit) == 0) broken("there may be core files");
    held("none");
}

static void schedule(const char *policy) {
    struct sched_param parameter = {.sched_priority = 1};
    refused_call(sched_setscheduler(0, atoi(policy), &parameter));
}

static void deadline(const char *unused) {
    (void)unused;
    struct { unsigned size, policy; unsigned long flags; int nice; unsigned priority; unsigned long runtime, deadline, period; }
        how = {48, 6, 0, 0, 0, 10000000, 30000000, 30000000};
    refused_call(syscall(SYS_sched_setattr, 0, &how, 0));
}

static void nice_(const char *unused) { (void)unused; refused_call(setpriority(PRIO_PROCESS, 0, -20)); }

static void disk_priority(const char *unused) { (void)unused; refused_call(syscall(SYS_ioprio_set, 1, 0, 1 << 13)); }

static void flood(const char *descriptor) {
    static char block[65536];
    memset(block, 'x', sizeof block);
    signal(SIGTERM, SIG_IGN);
    while (write(atoi(descriptor), block, sizeof block) > 0) {}
    held("its end is closed");
}

static void ignore_all(void) {
    for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
}

/* The test looks whether they are gone. */
static void stays_after_the_end(const char *unused) {
    (void)unused;
    for (int count = 0; count < 3; count++)
        if (fork() == 0) {
            setsid();
            if (fork()) _exit(0);
            ignore_all();
            alarm(0);
            for (;;) sleep(600);
        }
    held("the test sees whether they are gone");
}

static void ignores_term(const char *how) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        ignore_all();
        if (how[0] == 's') raise(SIGSTOP);
        for (;;) sleep(600);
    }
    ignore_all();
    alarm(0);
    signal(SIGCHLD, SIG_DFL);
    if (how[0] == 't') {
        ptrace(PTRACE_SEIZE, child, 0, 0x100000 /* PTRACE_O_EXITKILL */);
        ptrace(PTRACE_INTERRUPT, child, 0, 0);
        waitpid(child, &status, __WALL);
    }
    for (;;) sleep(600);
}

const struct attack attacks[] = {
    {"fork-bomb", forks, NULL}, {"thread-bomb", threads, NULL}, {"memory-hog", one_hog, NULL},
    {"memory-hogs", many_hogs, NULL}, {"memory-file-hog", memory_file_hog, NULL}, {"segment-hog", segment_hog, NULL},
    {"locked-memory", locked_hog, NULL}, {"shared-files-bytes", shared_files, NULL},
    {"shared-files-count", many_files, "/dev/shm"}, {"device-folder-files", many_files, "/dev"}, {"open-files", open_files, NULL},
    {"core-files", core_files, NULL}, {"schedule-fifo", schedule, "1"}, {"schedule-round-robin", schedule, "2"},
    {"schedule-deadline", deadline, NULL}, {"schedule-nice", nice_, NULL}, {"schedule-disk", disk_priority, NULL},
    {"flood-stdout", flood, "1"}, {"flood-stderr", flood, "2"}, {"daemons-left", stays_after_the_end, NULL},
    {"term-ignored", ignores_term, "i"}, {"term-ignored-stopped", ignores_term, "s"}, {"term-ignored-traced", ignores_term, "t"},
    {NULL, NULL, NULL},
};
