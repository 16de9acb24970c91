/* Other processes: PID 1 of the job, its monitor, processes of the machine. */
#include "attack.h"

#include <dirent.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sched.h>

/* Address 1 is nobody's: a call that reaches it was permitted, and has changed nothing. */
static struct iovec nowhere = {(void *)1, 1};

static int target(const char *who) { return !strcmp(who, "init") ? 1 : victim_number("PID"); }

/* In the job's own pid namespace init is 1; on lower rungs 1 is somebody else's, and may be only looked at. */
static void refused_process(long result) {
    if (result >= 0) broken("it succeeded: %ld", result);
    if (errno == ESRCH) held("%s", strerror(errno));
    refused_call(result);
}

static int is_own(const char *name) {
    char path[300], text[8192];
    snprintf(path, sizeof path, "/proc/%s/environ", name);
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text);
    if (file >= 0) close(file);
    return length > 0 && memmem(text, length, "ATTACK_OWN=", 11) != NULL;
}

/* Everything that a process has to read, of every process that is not of this attack. */
static void read_everybody(const char *what) {
    DIR *processes = opendir("/proc");
    int seen = 0;
    if (!processes) held("no /proc: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(processes));) {
        char path[300], text[256];
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || is_own(entry->d_name)) continue;
        seen++;
        snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, what);
        int file = open(path, O_RDONLY | O_NONBLOCK);
        if (file < 0) continue;
        struct stat status;
        if (fstat(file, &status) == 0 && S_ISDIR(status.st_mode)) {
            int any = syscall(SYS_getdents64, file, text, sizeof text) > 0;
            if (any) broken("listed %s", path);
        } else if (read(file, text, sizeof text) > 0) {
            broken("read %s", path);
        }
        close(file);
    }
    held("of %d others nothing", seen);
}

static void links_of_everybody(const char *what) {
    DIR *processes = opendir("/proc");
    if (!processes) held("no /proc: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(processes));) {
        char path[300], text[256];
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || is_own(entry->d_name)) continue;
        snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, what);
        ssize_t length = readlink(path, text, sizeof text - 1);
        if (length > 0) {
            text[length] = 0;
            broken("%s is %s", path, text);
        }
    }
    held("of no other");
}

static void environment_of_victim(const char *unused) {
    (void)unused;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", victim_number("PID"));
    holds_no_canary(path);
}

static void names_of_others(const char *unused) {
    (void)unused;
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/cmdline", victim_number("PID"));
    int file = open(path, O_RDONLY);
    if (file < 0) refused_path(file);
    ssize_t length = read(file, text, sizeof text);
    if (length > 0 && memmem(text, length, "victim", 6)) broken("it reads the victim's command line");
    held("another process");
}

static void memory_file(const char *who) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", target(who));
    refused_path(open(path, O_RDWR));
}

static void attach(const char *who) {
    long result = ptrace(PTRACE_SEIZE, target(who), 0, 0);
    refused_process(result);
}

static void attach_stopping(const char *who) {
    if (!own_processes() && !strcmp(who, "init")) held("not tried: PID 1 is not the job's");
    refused_process(ptrace(PTRACE_ATTACH, target(who), 0, 0));
}

static void read_memory(const char *who) { refused_process(process_vm_readv(target(who), &nowhere, 1, &nowhere, 1, 0)); }

static void write_memory(const char *who) { refused_process(process_vm_writev(target(who), &nowhere, 1, &nowhere, 1, 0)); }

static void take_descriptor(const char *who) {
    int process = syscall(SYS_pidfd_open, target(who), 0);
    if (process < 0) refused_process(process);
    for (int number = 0; number < 64; number++) {
        long taken = syscall(SYS_pidfd_getfd, process, number, 0);
        if (taken >= 0 || errno == EBADF) broken("descriptor %d of it: %ld", number, taken);
    }
    held("%s", strerror(errno));
}

static void join_by_pidfd(const char *who) {
    int process = syscall(SYS_pidfd_open, target(who), 0);
    if (process < 0) refused_process(process);
    refused_call(syscall(SYS_setns, process, 0x10000000 /* CLONE_NEWUSER */));
}

static void join_by_file(const char *kind) {
    char path[64];
    snprintf(path, sizeof path, "/proc/1/ns/%s", kind);
    int namespace = open(path, O_RDONLY);
    if (namespace < 0) refused_path(namespace);
    refused_call(syscall(SYS_setns, namespace, 0));
}

static void rejoin_own(const char *kind) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    int namespace = open(path, O_RDONLY);
    if (namespace < 0) refused_path(namespace);
    refused_call(syscall(SYS_setns, namespace, 0));
}

static void advise(const char *unused) {
    (void)unused;
    int process = syscall(SYS_pidfd_open, getpid(), 0);
    struct iovec range = {NULL, 0};
    refused_call(syscall(SYS_process_madvise, process, &range, 1, 21 /* MADV_PAGEOUT */, 0));
}

static void reap_memory(const char *unused) {
    (void)unused;
    int process = syscall(SYS_pidfd_open, getpid(), 0);
    refused_call(syscall(448 /* process_mrelease */, process, 0));
}

static void compare(const char *who) { refused_process(syscall(SYS_kcmp, getpid(), target(who), 2, 0, 0)); }

/* Only asks; but who may ask may set: a limit of CPU seconds would end it. */
static void limits_of(const char *who) {
    struct rlimit limit;
    refused_process(prlimit(target(who), RLIMIT_CPU, NULL, &limit));
}

static void kill_init(const char *unused) {
    (void)unused;
    int signals[] = {SIGKILL, SIGSTOP, SIGTERM, SIGINT, SIGSEGV, SIGHUP, SIGUSR1, SIGCHLD, SIGRTMIN};
    if (!own_processes()) {
        if (kill(1, 0) == 0) broken("it may be signalled");
        refused_process(-1);
    }
    for (unsigned at = 0; at < sizeof signals / sizeof *signals; at++) kill(1, signals[at]);
    int process = syscall(SYS_pidfd_open, 1, 0);
    if (process >= 0) syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
    usleep(50000);
    held("still here; the test sees whether init is, too");
}

static void signal_victim(const char *unused) {
    (void)unused;
    refused_process(kill(victim_number("PID"), 0));
}

/* Whoever has a number: the monitor, the worker, others of the machine. Signal 0 does nothing. */
static void signal_everybody(const char *unused) {
    (void)unused;
    pid_t own = getpid(), runner = getppid();
    for (pid_t process = 2; process < 100000; process++) {
        if (process == own || process == runner || kill(process, 0) < 0) continue;
        char name[16], path[64], text[4096];
        snprintf(name, sizeof name, "%d", process);
        if (is_own(name)) continue;
        snprintf(path, sizeof path, "/proc/%d/status", process);
        int file = open(path, O_RDONLY);
        ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
        text[length > 0 ? length : 0] = 0;
        broken("process %d may be signalled", process);
    }
    held("none but our own");
}

static void signal_parents_group(const char *unused) {
    (void)unused;
    pid_t group = getpgid(1);
    if (group < 0) refused_process(-1);
    if (group == 0 || group == 1) held("init's group is out of sight");
    refused_process(kill(-group, 0));
}

static void badness(const char *unused) {
    (void)unused;
    int file = open("/proc/self/oom_score_adj", O_WRONLY);
    if (file < 0) refused_path(file);
    refused_path(write(file, "-1000", 5));
}

static void badness_of_init(const char *unused) {
    (void)unused;
    refused_path(open("/proc/1/oom_score_adj", O_WRONLY));
}

static void schedule_init(const char *unused) {
    (void)unused;
    struct sched_param parameter = {.sched_priority = 0};
    if (!own_processes()) held("not tried: PID 1 is not the job's");
    refused_process(sched_setscheduler(1, SCHED_IDLE, &parameter));
}

const struct attack attacks[] = {
    {"processes-listed", names_of_others, NULL},
    {"processes-environ", read_everybody, "environ"},
    {"processes-maps", read_everybody, "maps"},
    {"processes-smaps", read_everybody, "smaps"},
    {"processes-auxv", read_everybody, "auxv"},
    {"processes-stack", read_everybody, "stack"},
    {"processes-syscall", read_everybody, "syscall"},
    {"processes-io", read_everybody, "io"},
    {"processes-fd", read_everybody, "fd"},
    {"processes-map-files", read_everybody, "map_files"},
    {"processes-cwd", links_of_everybody, "cwd"},
    {"processes-root", links_of_everybody, "root"},
    {"processes-exe", links_of_everybody, "exe"},
    {"processes-namespaces", links_of_everybody, "ns/mnt"},
    {"victim-environ", environment_of_victim, NULL},
    {"victim-memory-file", memory_file, "victim"},
    {"victim-ptrace", attach, "victim"},
    {"victim-ptrace-stopping", attach_stopping, "victim"},
    {"victim-memory-read", read_memory, "victim"},
    {"victim-memory-write", write_memory, "victim"},
    {"victim-descriptors", take_descriptor, "victim"},
    {"victim-namespaces", join_by_pidfd, "victim"},
    {"victim-limits", limits_of, "victim"},
    {"victim-compared", compare, "victim"},
    {"victim-signal", signal_victim, NULL},
    {"init-memory-file", memory_file, "init"},
    {"init-ptrace", attach, "init"},
    {"init-ptrace-stopping", attach_stopping, "init"},
    {"init-memory-read", read_memory, "init"},
    {"init-memory-write", write_memory, "init"},
    {"init-descriptors", take_descriptor, "init"},
    {"init-namespaces-by-pidfd", join_by_pidfd, "init"},
    {"init-namespace-mnt", join_by_file, "mnt"},
    {"init-namespace-user", join_by_file, "user"},
    {"init-namespace-net", join_by_file, "net"},
    {"init-limits", limits_of, "init"},
    {"init-compared", compare, "init"},
    {"init-signals", kill_init, NULL},
    {"init-badness", badness_of_init, NULL},
    {"init-scheduling", schedule_init, NULL},
    {"own-namespace-user", rejoin_own, "user"},
    {"own-namespace-mnt", rejoin_own, "mnt"},
    {"own-badness", badness, NULL},
    {"own-memory-advised", advise, NULL},
    {"own-memory-reaped", reap_memory, NULL},
    {"signal-every-number", signal_everybody, NULL},
    {"signal-group-of-init", signal_parents_group, NULL},
    {NULL, NULL, NULL},
};
