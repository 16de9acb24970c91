/* System calls that belong to the kernel's owner, and the ways around a filter of them. */
#include "attack.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/timex.h>
#include <sys/time.h>
#include <sys/user.h>
#include <time.h>
#ifdef __x86_64__
#include <sys/io.h>
#endif

#define CALL(function, ...)                                                                                            \
    static void function(const char *unused) {                                                                         \
        (void)unused;                                                                                                  \
        errno = 0;                                                                                                     \
        refused_call(__VA_ARGS__);                                                                                     \
    }

static char nothing[256];

/* A child of a raw clone ends at once: the attack is that there is one. */
static long cloned(unsigned long flags) {
    long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return child;
}

static long cloned_3(unsigned long flags, unsigned long cgroup) {
    unsigned long arguments[11] = {flags, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, cgroup};
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0) _exit(0);
    return child;
}

CALL(unshare_user, unshare(CLONE_NEWUSER))
CALL(unshare_mount, unshare(CLONE_NEWNS))
CALL(unshare_net, unshare(CLONE_NEWNET))
CALL(unshare_pid, unshare(CLONE_NEWPID))
CALL(unshare_cgroup, unshare(CLONE_NEWCGROUP))
CALL(unshare_time, unshare(0x80))
CALL(clone_user, cloned(CLONE_NEWUSER))
CALL(clone_mount, cloned(CLONE_NEWNS))
CALL(clone_net, cloned(CLONE_NEWNET))
CALL(clone_pid, cloned(CLONE_NEWPID))
CALL(clone_high_bits, cloned(0x100000000UL | CLONE_NEWUSER))
CALL(clone3_user, cloned_3(CLONE_NEWUSER, 0))
CALL(clone3_time, cloned_3(0x80, 0))
CALL(clone3_cgroup, cloned_3(0x200000000UL, 1))
CALL(mount_tmpfs, syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, ""))
CALL(mount_bind, syscall(SYS_mount, "/", "/tmp", NULL, 0x1000, NULL))
CALL(mount_proc, syscall(SYS_mount, "proc", "/tmp", "proc", 0, NULL))
CALL(mount_overlay, syscall(SYS_mount, "overlay", "/tmp", "overlay", 0, "lowerdir=/,upperdir=/tmp,workdir=/workspace"))
CALL(mount_remount_root, syscall(SYS_mount, "none", "/", NULL, 0x20, NULL))
CALL(mount_remount_sys, syscall(SYS_mount, "none", "/proc/sys", NULL, 0x1020, NULL))
CALL(mount_shared, syscall(SYS_mount, "none", "/", NULL, 0x104000, NULL))
CALL(umount_sys, syscall(SYS_umount2, "/proc/sys", 2))
CALL(umount_kcore, syscall(SYS_umount2, "/proc/kcore", 2))
CALL(umount_root, syscall(SYS_umount2, "/", 2))
CALL(umount_workspace, syscall(SYS_umount2, "/workspace", 2))
CALL(pivot, syscall(SYS_pivot_root, ".", "."))
CALL(change_root, syscall(SYS_chroot, "/tmp"))
CALL(open_tree_, syscall(428, AT_FDCWD, "/", 1))
CALL(open_tree_attr_, syscall(467, AT_FDCWD, "/", 1, NULL, 0))
CALL(move_mount_, syscall(429, AT_FDCWD, "/tmp", AT_FDCWD, "/workspace", 0))
CALL(fsopen_, syscall(430, "tmpfs", 0))
CALL(fsconfig_, syscall(431, 0, 6, NULL, NULL, 0))
CALL(fsmount_, syscall(432, 0, 0, 0))
CALL(fspick_, syscall(433, AT_FDCWD, "/", 0))
CALL(mount_setattr_, syscall(442, AT_FDCWD, "/", 0, nothing, 32))
CALL(statmount_, syscall(457, nothing, nothing, sizeof nothing, 0))
CALL(listmount_, syscall(458, nothing, nothing, 8, 0))
CALL(bpf_, syscall(SYS_bpf, 0, nothing, sizeof nothing))
CALL(io_uring_setup_, syscall(425, 1, nothing))
CALL(io_uring_enter_, syscall(426, 0, 0, 0, 0, NULL, 0))
CALL(io_uring_register_, syscall(427, -1, 13, nothing, 1))
CALL(perf, syscall(SYS_perf_event_open, nothing, 0, -1, -1, 0))
CALL(userfaultfd_, syscall(SYS_userfaultfd, 0))
CALL(userfaultfd_user, syscall(SYS_userfaultfd, 1))
CALL(keyctl_session, syscall(SYS_keyctl, 0, -3, 0))
CALL(keyctl_join, syscall(SYS_keyctl, 1, NULL))
CALL(keyctl_persistent, syscall(SYS_keyctl, 22, -1, -3))
CALL(add_key_, syscall(SYS_add_key, "user", "attack", "x", 1, -3))
CALL(request_key_, syscall(SYS_request_key, "user", "attack", NULL, 0))
CALL(init_module_, syscall(SYS_init_module, nothing, sizeof nothing, ""))
CALL(finit_module_, syscall(SYS_finit_module, 0, "", 0))
CALL(delete_module_, syscall(SYS_delete_module, "no_such_module", O_NONBLOCK))
/* A magic number that is none: the kernel looks at it after the capability. */
CALL(reboot_, syscall(SYS_reboot, 1, 2, 3, NULL))
CALL(kexec, syscall(SYS_kexec_load, 0, 0, NULL, 0xffff))
CALL(swapon_, syscall(SYS_swapon, "/no/such/file", 0))
CALL(swapoff_, syscall(SYS_swapoff, "/no/such/file"))
CALL(quotactl_, syscall(SYS_quotactl, 0x800002 << 8, "/no/such/device", 0, NULL))
CALL(quotactl_fd_, syscall(443, 0, 0x800002 << 8, 0, NULL))
CALL(kernel_log, syscall(SYS_syslog, 3, nothing, sizeof nothing))
CALL(kernel_log_size, syscall(SYS_syslog, 10, NULL, 0))
CALL(accounting, syscall(SYS_acct, "/no/such/file"))
CALL(host_name, sethostname("x", 1))
CALL(domain_name, setdomainname("x", 1))
CALL(hang_up, vhangup())
CALL(handle_of, syscall(SYS_name_to_handle_at, AT_FDCWD, "/", nothing, nothing, 0))
CALL(open_handle, syscall(SYS_open_by_handle_at, AT_FDCWD, nothing, O_RDONLY))
CALL(cookie, syscall(SYS_lookup_dcookie, 0UL, nothing, sizeof nothing))
CALL(fanotify, syscall(SYS_fanotify_init, 0, O_RDONLY))
CALL(fanotify_mark_, syscall(SYS_fanotify_mark, 0, 1, 1UL, AT_FDCWD, "/"))
CALL(bind_memory, syscall(SYS_mbind, nothing, 4096, 0, NULL, 0, 0))
CALL(memory_policy, syscall(SYS_set_mempolicy, 0, NULL, 0))
CALL(move_pages_, syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0))
CALL(migrate_pages_, syscall(SYS_migrate_pages, 0, 0, NULL, NULL))
CALL(secret_memory, syscall(447, 0))
CALL(set_time_of_day, settimeofday(NULL, (struct timezone *)nothing))
CALL(unknown, syscall(9999))
CALL(unknown_negative, syscall(-5))
CALL(lsm, syscall(460, 100, nothing, sizeof nothing, 0))
CALL(nfs, syscall(SYS_nfsservctl, 0, NULL, NULL))

static void clock_tick(const char *unused) {
    (void)unused;
    /* A tick of 0 is no tick: the kernel looks at it after the capability. */
    struct timex change = {.modes = ADJ_TICK, .tick = 0};
    refused_call(adjtimex(&change));
}

static void clock_set(const char *unused) {
    (void)unused;
    struct timespec never = {0, -1};
    /* By number: the C library looks at the time itself. */
    refused_call(syscall(SYS_clock_settime, CLOCK_REALTIME, &never));
}

static void personality_(const char *number) { refused_call(personality(strtoul(number, NULL, 16))); }

#ifdef __x86_64__
CALL(ports_all, iopl(3))
CALL(ports_one, ioperm(0x80, 1, 1))
CALL(local_descriptors, syscall(SYS_modify_ldt, 0, nothing, sizeof nothing))
CALL(kexec_file, syscall(SYS_kexec_file_load, -1, -1, 0UL, "", 0xffffUL))
CALL(old_sysctl, syscall(SYS__sysctl, NULL))
CALL(old_uselib, syscall(SYS_uselib, "/no/such/file"))
CALL(old_sysfs, syscall(SYS_sysfs, 3))
CALL(old_ustat, syscall(SYS_ustat, 0, nothing))
CALL(x32_getpid, syscall(0x40000000 + SYS_getpid))
CALL(x32_mount, syscall(0x40000000 + SYS_mount, "none", "/tmp", "tmpfs", 0, ""))
CALL(x32_ptrace, syscall(0x40000000 + 521, 0, 0, 0, 0))

/* The 32-bit entry has numbers of its own; the filter knows the 64-bit ones. */
static void old_entry(const char *number) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        long answer;
        __asm__ volatile("int $0x80" : "=a"(answer) : "a"(atoi(number)), "b"(0), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
        _exit(answer >= 0 ? 1 : answer == -ENOSYS ? 2 : answer == -EPERM ? 3 : 4);
    }
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) held("the process dies by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == 2 || WEXITSTATUS(status) == 3) held("refused");
    broken("call %s by the 32-bit entry ended with %d", number, WEXITSTATUS(status));
}

/* The filter looks at the call before a tracer may change it, or after? */
static void changed_by_tracer(const char *unused) {
    (void)unused;
    int status;
    struct user_regs_struct registers;
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) _exit(9);
        raise(SIGSTOP);
        long result = syscall(SYS_getpid, CLONE_NEWUSER);
        _exit(result == 0 ? 1 : 0);
    }
    if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) held("no tracing at all");
    for (;;) {
        if (ptrace(PTRACE_SYSCALL, child, 0, 0) < 0 || waitpid(child, &status, 0) < 0) abort();
        if (WIFEXITED(status)) break;
        if (WIFSIGNALED(status)) held("the tracee dies");
        if (ptrace(PTRACE_GETREGS, child, 0, &registers) < 0) abort();
        if (registers.orig_rax == SYS_getpid && (long)registers.rax == -ENOSYS) {
            registers.orig_rax = SYS_unshare;
            ptrace(PTRACE_SETREGS, child, 0, &registers);
        }
    }
    if (WEXITSTATUS(status) == 1) broken("unshare by way of getpid succeeded");
    held("the filter looks after the tracer");
}
#endif

/* A listener of the job's own that says "go on" must not outvote the sandbox's filters. */
static void own_filter(const char *unused) {
    (void)unused;
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, 2, &program) < 0) held("no filter can be added: %s", strerror(errno));
    refused_call(unshare(CLONE_NEWUSER));
}

static void filter_off(const char *unused) {
    (void)unused;
    prctl(PR_SET_SECCOMP, 0, NULL);
    refused_call(unshare(CLONE_NEWUSER));
}

static void after_exec(const char *unused) {
    (void)unused;
    char text[400] = "";
    int ends[2];
    copy_self("/tmp/again", 0700);
    if (pipe(ends) < 0) abort();
    if (fork() == 0) {
        dup2(ends[1], 1);
        execl("/tmp/again", "again", "unshare-user", (char *)NULL);
        _exit(9);
    }
    close(ends[1]);
    if (read(ends[0], text, sizeof text - 1) <= 0) abort();
    if (!strncmp(text, "unshare-user held", 17)) held("also after an exec");
    broken("after an exec: %s", text);
}

const struct attack attacks[] = {
    {"unshare-user", unshare_user, NULL}, {"unshare-mount", unshare_mount, NULL}, {"unshare-net", unshare_net, NULL},
    {"unshare-pid", unshare_pid, NULL}, {"unshare-cgroup", unshare_cgroup, NULL}, {"unshare-time", unshare_time, NULL},
    {"clone-user", clone_user, NULL}, {"clone-mount", clone_mount, NULL}, {"clone-net", clone_net, NULL},
    {"clone-pid", clone_pid, NULL}, {"clone-high-bits", clone_high_bits, NULL}, {"clone3-user", clone3_user, NULL},
    {"clone3-time", clone3_time, NULL}, {"clone3-cgroup", clone3_cgroup, NULL}, {"mount-tmpfs", mount_tmpfs, NULL},
    {"mount-bind", mount_bind, NULL}, {"mount-proc", mount_proc, NULL}, {"mount-overlay", mount_overlay, NULL},
    {"mount-remount-root", mount_remount_root, NULL}, {"mount-remount-proc-sys", mount_remount_sys, NULL},
    {"mount-shared", mount_shared, NULL}, {"umount-proc-sys", umount_sys, NULL}, {"umount-proc-kcore", umount_kcore, NULL},
    {"umount-root", umount_root, NULL}, {"umount-workspace", umount_workspace, NULL}, {"pivot-root", pivot, NULL},
    {"chroot", change_root, NULL}, {"open-tree", open_tree_, NULL}, {"open-tree-attr", open_tree_attr_, NULL},
    {"move-mount", move_mount_, NULL}, {"fsopen", fsopen_, NULL}, {"fsconfig", fsconfig_, NULL},
    {"fsmount", fsmount_, NULL}, {"fspick", fspick_, NULL}, {"mount-setattr", mount_setattr_, NULL},
    {"statmount", statmount_, NULL}, {"listmount", listmount_, NULL}, {"bpf", bpf_, NULL},
    {"io-uring-setup", io_uring_setup_, NULL}, {"io-uring-enter", io_uring_enter_, NULL},
    {"io-uring-register", io_uring_register_, NULL}, {"perf-event", perf, NULL}, {"userfaultfd", userfaultfd_, NULL},
    {"userfaultfd-user-mode", userfaultfd_user, NULL}, {"keyctl-session", keyctl_session, NULL},
    {"keyctl-join", keyctl_join, NULL}, {"keyctl-persistent", keyctl_persistent, NULL}, {"add-key", add_key_, NULL},
    {"request-key", request_key_, NULL}, {"module-init", init_module_, NULL}, {"module-finit", finit_module_, NULL},
    {"module-delete", delete_module_, NULL}, {"reboot", reboot_, NULL}, {"kexec", kexec, NULL},
    {"swapon", swapon_, NULL}, {"swapoff", swapoff_, NULL}, {"quotactl", quotactl_, NULL},
    {"quotactl-fd", quotactl_fd_, NULL}, {"kernel-log", kernel_log, NULL}, {"kernel-log-size", kernel_log_size, NULL},
    {"accounting", accounting, NULL}, {"host-name", host_name, NULL}, {"domain-name", domain_name, NULL},
    {"vhangup", hang_up, NULL}, {"handle-of-root", handle_of, NULL}, {"handle-opened", open_handle, NULL},
    {"dcookie", cookie, NULL}, {"fanotify", fanotify, NULL}, {"fanotify-mark", fanotify_mark_, NULL},
    {"memory-bind", bind_memory, NULL}, {"memory-policy", memory_policy, NULL}, {"move-pages", move_pages_, NULL},
    {"migrate-pages", migrate_pages_, NULL}, {"secret-memory", secret_memory, NULL},
    {"time-of-day", set_time_of_day, NULL}, {"clock-tick", clock_tick, NULL}, {"clock-set", clock_set, NULL},
    {"unknown-call", unknown, NULL}, {"unknown-call-negative", unknown_negative, NULL}, {"lsm-attributes", lsm, NULL},
    {"nfsservctl", nfs, NULL}, {"personality-read-implies-exec", personality_, "400000"},
    {"personality-svr4", personality_, "4100001"}, {"personality-mmap-page-zero", personality_, "100000"},
    {"filter-of-its-own", own_filter, NULL}, {"filter-off", filter_off, NULL}, {"filter-after-exec", after_exec, NULL},
#ifdef __x86_64__
    {"io-ports-all", ports_all, NULL}, {"io-ports-one", ports_one, NULL}, {"local-descriptor-table", local_descriptors, NULL},
    {"kexec-file", kexec_file, NULL}, {"old-sysctl", old_sysctl, NULL}, {"old-uselib", old_uselib, NULL},
    {"old-sysfs", old_sysfs, NULL}, {"old-ustat", old_ustat, NULL}, {"x32-getpid", x32_getpid, NULL},
    {"x32-mount", x32_mount, NULL}, {"x32-ptrace", x32_ptrace, NULL}, {"int80-getpid", old_entry, "20"},
    {"int80-mount", old_entry, "21"}, {"int80-unshare", old_entry, "310"}, {"int80-io-uring", old_entry, "425"},
    {"call-changed-by-tracer", changed_by_tracer, NULL},
#endif
    {NULL, NULL, NULL},
};
