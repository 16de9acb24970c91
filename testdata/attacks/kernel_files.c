/* The kernel's own files: what changes it, what tells too much, and its devices. Nothing is written where it opens. */
#include "attack.h"

/* Opening for writing is enough of a breach. */
static void writable(const char *path) { refused_path(open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)); }

/* A masked file may open, and is empty. */
static void readable(const char *path) {
    char text[4096];
    int file = open(path, O_RDONLY | O_NONBLOCK);
    if (file < 0) refused_path(file);
    ssize_t length = read(file, text, sizeof text);
    if (length > 0) broken("read %zd bytes", length);
    held("empty");
}

/* The devices that a job has are on no list here. */
static void device(const char *path) { refused_path(open(path, O_RDWR | O_NONBLOCK | O_NOCTTY)); }

static void map_of_ids(const char *path) {
    int file = open(path, O_WRONLY);
    if (file < 0) refused_path(file);
    refused_path(write(file, "0 0 1\n", 6));
}

static void host_paths(const char *unused) {
    (void)unused;
    char text[65536];
    size_t length = 0;
    int file = open("/proc/self/environ", O_RDONLY);
    if (file < 0) refused_path(file);
    ssize_t got;
    while (length < sizeof text && (got = read(file, text + length, sizeof text - length)) > 0) length += got;
    if (memmem(text, length, "WORKER_CANARY", 13)) broken("the worker's environment is in ours");
    held("only what was given");
}

const struct attack attacks[] = {
    {"write-sysrq-trigger", writable, "/proc/sysrq-trigger"},
    {"write-sysrq", writable, "/proc/sys/kernel/sysrq"},
    {"write-core-pattern", writable, "/proc/sys/kernel/core_pattern"},
    {"write-hostname", writable, "/proc/sys/kernel/hostname"},
    {"write-modprobe", writable, "/proc/sys/kernel/modprobe"},
    {"write-panic", writable, "/proc/sys/kernel/panic"},
    {"write-randomize-va-space", writable, "/proc/sys/kernel/randomize_va_space"},
    {"write-ns-last-pid", writable, "/proc/sys/kernel/ns_last_pid"},
    {"write-shmmax", writable, "/proc/sys/kernel/shmmax"},
    {"write-usermodehelper", writable, "/proc/sys/kernel/usermodehelper/bset"},
    {"write-drop-caches", writable, "/proc/sys/vm/drop_caches"},
    {"write-overcommit", writable, "/proc/sys/vm/overcommit_memory"},
    {"write-ip-forward", writable, "/proc/sys/net/ipv4/ip_forward"},
    {"write-unprivileged-ports", writable, "/proc/sys/net/ipv4/ip_unprivileged_port_start"},
    {"write-max-user-namespaces", writable, "/proc/sys/user/max_user_namespaces"},
    {"write-protected-hardlinks", writable, "/proc/sys/fs/protected_hardlinks"},
    {"write-suid-dumpable", writable, "/proc/sys/fs/suid_dumpable"},
    {"write-binfmt-register", writable, "/proc/sys/fs/binfmt_misc/register"},
    {"write-irq-affinity", writable, "/proc/irq/default_smp_affinity"},
    {"write-bus-pci", writable, "/proc/bus/pci/00/00.0"},
    {"write-mtrr", writable, "/proc/mtrr"},
    {"write-acpi-wakeup", writable, "/proc/acpi/wakeup"},
    {"write-scsi", writable, "/proc/scsi/scsi"},
    {"write-init-clear-refs", writable, "/proc/1/clear_refs"},
    {"write-init-coredump-filter", writable, "/proc/1/coredump_filter"},
    {"write-init-name", writable, "/proc/1/comm"},
    {"write-uevent-helper", writable, "/sys/kernel/uevent_helper"},
    {"write-power-state", writable, "/sys/power/state"},
    {"write-cgroup-procs", writable, "/sys/fs/cgroup/cgroup.procs"},
    {"write-cgroup-v1-procs", writable, "/sys/fs/cgroup/memory/cgroup.procs"},
    {"write-release-agent", writable, "/sys/fs/cgroup/release_agent"},
    {"write-release-agent-v1", writable, "/sys/fs/cgroup/memory/release_agent"},
    {"write-thp", writable, "/sys/kernel/mm/transparent_hugepage/enabled"},
    {"write-kernel-profiling", writable, "/sys/kernel/profiling"},
    {"write-uid-map", map_of_ids, "/proc/self/uid_map"},
    {"write-gid-map", map_of_ids, "/proc/self/gid_map"},
    {"write-setgroups", map_of_ids, "/proc/self/setgroups"},
    {"write-projid-map", map_of_ids, "/proc/self/projid_map"},
    {"read-kcore", readable, "/proc/kcore"},
    {"read-keys", readable, "/proc/keys"},
    {"read-key-users", readable, "/proc/key-users"},
    {"read-timer-list", readable, "/proc/timer_list"},
    {"read-sched-debug", readable, "/proc/sched_debug"},
    {"read-kallsyms", readable, "/proc/kallsyms"},
    {"read-config", readable, "/proc/config.gz"},
    {"read-latency-stats", readable, "/proc/latency_stats"},
    {"read-kmsg", readable, "/proc/kmsg"},
    {"read-page-count", readable, "/proc/kpagecount"},
    {"read-page-flags", readable, "/proc/kpageflags"},
    {"read-page-cgroup", readable, "/proc/kpagecgroup"},
    {"read-vmallocinfo", readable, "/proc/vmallocinfo"},
    {"read-slabinfo", readable, "/proc/slabinfo"},
    {"read-pagetypeinfo", readable, "/proc/pagetypeinfo"},
    {"read-init-stack", readable, "/proc/1/stack"},
    {"read-init-environ", readable, "/proc/1/environ"},
    {"read-notes", readable, "/sys/kernel/notes"},
    {"read-btf", readable, "/sys/kernel/btf/vmlinux"},
    {"read-dmi", readable, "/sys/class/dmi/id/product_serial"},
    {"read-debug-fs", readable, "/sys/kernel/debug/sched/debug"},
    {"read-trace-fs", readable, "/sys/kernel/tracing/trace"},
    {"read-efi", readable, "/sys/firmware/efi/systab"},
    {"environment-of-worker", host_paths, NULL},
    {"device-mem", device, "/dev/mem"},
    {"device-kmem", device, "/dev/kmem"},
    {"device-port", device, "/dev/port"},
    {"device-kmsg", device, "/dev/kmsg"},
    {"device-disk-vda", device, "/dev/vda"},
    {"device-disk-sda", device, "/dev/sda"},
    {"device-disk-nvme", device, "/dev/nvme0n1"},
    {"device-kvm", device, "/dev/kvm"},
    {"device-fuse", device, "/dev/fuse"},
    {"device-tun", device, "/dev/net/tun"},
    {"device-loop-control", device, "/dev/loop-control"},
    {"device-loop", device, "/dev/loop0"},
    {"device-mapper", device, "/dev/mapper/control"},
    {"device-btrfs", device, "/dev/btrfs-control"},
    {"device-vhost-net", device, "/dev/vhost-net"},
    {"device-vhost-vsock", device, "/dev/vhost-vsock"},
    {"device-vsock", device, "/dev/vsock"},
    {"device-vfio", device, "/dev/vfio/vfio"},
    {"device-uinput", device, "/dev/uinput"},
    {"device-snapshot", device, "/dev/snapshot"},
    {"device-userfaultfd", device, "/dev/userfaultfd"},
    {"device-gpu", device, "/dev/dri/card0"},
    {"device-console", device, "/dev/console"},
    {"device-tty0", device, "/dev/tty0"},
    {"device-ttyS0", device, "/dev/ttyS0"},
    {"device-autofs", device, "/dev/autofs"},
    {"device-cuse", device, "/dev/cuse"},
    {"device-tpm", device, "/dev/tpm0"},
    {"device-ppp", device, "/dev/ppp"},
    {"device-rtc", device, "/dev/rtc0"},
    {"device-watchdog", device, "/dev/watchdog"},
    {"device-cpu-msr", device, "/dev/cpu/0/msr"},
    {NULL, NULL, NULL},
};
