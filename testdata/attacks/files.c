/* The machine's files: by name, through links, /proc, descriptors, mounts, devices and attributes. */
#include "attack.h"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

/* A path of the machine behind a prefix. */
static void below(const char *prefix) {
    char path[8192];
    snprintf(path, sizeof path, "%s%s", prefix, victim("FILE"));
    holds_no_canary(path);
}

static void by_victims_folder(const char *what) {
    char prefix[64];
    snprintf(prefix, sizeof prefix, "/proc/%d/%s", victim_number("PID"), what);
    below(prefix);
}

static void by_link(const char *prefix) {
    char path[8192];
    snprintf(path, sizeof path, "%s%s", prefix, victim("FILE"));
    unlink("/workspace/by-link");
    if (symlink(path, "/workspace/by-link") < 0) abort();
    holds_no_canary("/workspace/by-link");
}

static void private_file(const char *unused) { (void)unused; holds_no_canary(victim("PRIVATE")); }

/* Every process that shows itself, whoever it is. */
static void by_every_process(const char *what) {
    DIR *processes = opendir("/proc");
    if (!processes) held("no /proc: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(processes));) {
        char path[8192];
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
        snprintf(path, sizeof path, "/proc/%s/%s%s", entry->d_name, what, victim("FILE"));
        int file = open(path, O_RDONLY | O_NONBLOCK);
        if (file >= 0 && reads_canary(file)) broken("read the canary by %s", path);
        if (file >= 0) close(file);
    }
    held("none leads there");
}

static void listing(const char *name) {
    DIR *folder = opendir(victim(name));
    if (!folder) refused_path(-1);
    if (faccessat(dirfd(folder), "canary", F_OK, 0) == 0) broken("listed");
    held("opened, but it is another folder");
}

static void inherited(const char *unused) {
    (void)unused;
    for (int descriptor = 0; descriptor < 4096; descriptor++) {
        struct stat status;
        if (fstat(descriptor, &status) < 0) continue;
        if (descriptor > 2) broken("descriptor %d is open, mode %o", descriptor, status.st_mode);
        if (S_ISDIR(status.st_mode) || S_ISSOCK(status.st_mode)) broken("descriptor %d has mode %o", descriptor, status.st_mode);
    }
    held("0, 1 and 2 alone");
}

static void working_directory(const char *unused) {
    (void)unused;
    char path[4096];
    if (!getcwd(path, sizeof path) && errno != ENOENT) abort();
    /* The kernel's own call tells of a folder outside the root. */
    long length = syscall(SYS_getcwd, path, sizeof path);
    if (length > 0 && path[0] != '/') broken("it is %s", path);
    for (int up = 0; up < 64; up++)
        if (chdir("..") < 0) break;
    holds_no_canary(victim("FILE") + 1);
}

static void by_descriptor_of_root(const char *unused) {
    (void)unused;
    char path[8192] = "";
    int root = open("/", O_PATH | O_DIRECTORY);
    for (int up = 0; up < 40; up++) strcat(path, "../");
    strcat(path, victim("FILE") + 1);
    int file = openat(root, path, O_RDONLY);
    if (file < 0) refused_path(file);
    if (reads_canary(file)) broken("read the canary");
    held("another file");
}

static void by_chroot(const char *unused) {
    (void)unused;
    mkdir("/tmp/deeper", 0700);
    refused_call(chroot("/tmp/deeper"));
}

/* The folder behind it can be written by everybody: the mount alone protects it. */
static void read_only(const char *how) {
    const char *file = "/readonly/canary";
    long result = -1;
    if (!strcmp(how, "write")) result = open(file, O_WRONLY);
    if (!strcmp(how, "make")) result = open("/readonly/made", O_CREAT | O_WRONLY, 0666);
    if (!strcmp(how, "truncate")) result = truncate(file, 0);
    if (!strcmp(how, "mode")) result = chmod(file, 06777);
    if (!strcmp(how, "unlink")) result = unlink(file);
    if (!strcmp(how, "rename")) result = rename(file, "/readonly/renamed");
    if (!strcmp(how, "times")) result = utimensat(AT_FDCWD, file, NULL, 0);
    if (!strcmp(how, "attribute")) result = setxattr(file, "user.attack", "x", 1, 0);
    if (!strcmp(how, "link-out")) result = link(file, "/workspace/linked");
    if (!strcmp(how, "rename-out")) result = rename(file, "/workspace/renamed");
    if (!strcmp(how, "proc-fd")) {
        char path[64];
        int reading = open(file, O_RDONLY);
        if (reading < 0) abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", reading);
        result = open(path, O_WRONLY);
    }
    if (!strcmp(how, "remount")) {
        errno = 0;
        result = syscall(SYS_mount, "none", "/readonly", NULL, 0x1020 /* MS_REMOUNT | MS_BIND */, NULL);
    }
    refused_path(result);
}

static void image_file(const char *path) {
    refused_path(open(path, O_WRONLY));
}

static void image_remove(const char *path) { refused_path(unlink(path)); }

static void mount_point(const char *path) {
    if (rename(path, "/tmp/moved") == 0) broken("moved %s", path);
    refused_path(-1);
}

static void node(const char *what) {
    mode_t kind = what[0] == 'b' ? S_IFBLK : S_IFCHR;
    int major = 0, minor = 0;
    sscanf(what + 1, "%d:%d", &major, &minor);
    unlink("/tmp/node");
    if (mknod("/tmp/node", kind | 0666, (dev_t)((major << 8) | minor)) < 0) refused_path(-1);
    int file = open("/tmp/node", O_RDONLY | O_NONBLOCK);
    int why = errno;
    unlink("/tmp/node");
    if (file >= 0) broken("made it and opened it");
    if (major == 0 && minor == 0) held("a whiteout can be made by anybody, and cannot be opened: %s", strerror(why));
    broken("made it");
}

static void attribute(const char *name) {
    write_file("/tmp/attributes", "x", 0666);
    /* Version 2, all capabilities, for security.capability; for the others any value will do. */
    unsigned char value[20] = {1, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 0, 0};
    if (setxattr("/tmp/attributes", name, value, sizeof value, 0) == 0) broken("set it");
    if (errno == EOPNOTSUPP) held("%s", strerror(errno));
    refused_call(-1);
}

static void socket_file(const char *path) {
    if (access(path, F_OK) == 0) {
        if (access(path, W_OK) == 0) broken("%s is there for writing", path);
        held("there, and not for us: %s", strerror(errno));
    }
    refused_path(-1);
}

static void victims_socket(const char *unused) {
    (void)unused;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", victim("SOCKET"));
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    refused_path(connect(connection, (struct sockaddr *)&address, sizeof address));
}

static void writes_through_exe(const char *path) {
    int file = open(path, O_WRONLY);
    if (file >= 0) broken("opened %s for writing", path);
    if (errno == ETXTBSY) broken("only being in use protects %s", path);
    if (chmod(path, 06755) == 0) broken("changed the mode of %s", path);
    refused_path(-1);
}

static void every_exe(const char *unused) {
    (void)unused;
    DIR *processes = opendir("/proc");
    if (!processes) held("no /proc: %s", strerror(errno));
    struct stat own, other;
    if (stat("/proc/self/exe", &own) < 0) held("no /proc/self: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(processes));) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || stat(path, &other) < 0) continue;
        if (own.st_ino == other.st_ino && own.st_dev == other.st_dev) continue;
        broken("%s can be followed", path);
    }
    held("no other program in sight");
}

const struct attack attacks[] = {
    {"file-by-name", below, ""},
    {"file-by-dot-dot", below, "/../../../../../../../../../../../.."},
    {"file-by-dot-dot-of-workspace", below, "/workspace/../../../../../../../.."},
    {"file-by-root-of-init", below, "/proc/1/root"},
    {"file-by-cwd-of-init", below, "/proc/1/cwd/../../../../../../.."},
    {"file-by-own-task", below, "/proc/self/task/../../1/root"},
    {"file-by-root-of-victim", by_victims_folder, "root"},
    {"file-by-cwd-of-victim", by_victims_folder, "cwd/../../../../../../.."},
    {"file-by-every-root", by_every_process, "root"},
    {"file-by-every-cwd", by_every_process, "cwd/../../../../../../.."},
    {"file-by-absolute-link", by_link, ""},
    {"file-by-relative-link", by_link, "../../../../../../../.."},
    {"file-by-link-to-init", by_link, "/proc/1/root"},
    {"file-by-magic-link", by_link, "/proc/self/root/proc/1/root"},
    {"file-by-descriptor-of-root", by_descriptor_of_root, NULL},
    {"file-by-chroot", by_chroot, NULL},
    {"file-private", private_file, NULL},
    {"folder-of-packhorse", listing, "STORE"},
    {"folder-of-the-job", listing, "JOBS"},
    {"descriptors-inherited", inherited, NULL},
    {"working-directory-outside", working_directory, NULL},
    {"read-only-write", read_only, "write"},
    {"read-only-make", read_only, "make"},
    {"read-only-truncate", read_only, "truncate"},
    {"read-only-mode", read_only, "mode"},
    {"read-only-unlink", read_only, "unlink"},
    {"read-only-rename", read_only, "rename"},
    {"read-only-times", read_only, "times"},
    {"read-only-attribute", read_only, "attribute"},
    {"read-only-link-out", read_only, "link-out"},
    {"read-only-rename-out", read_only, "rename-out"},
    {"read-only-by-proc-fd", read_only, "proc-fd"},
    {"read-only-remount", read_only, "remount"},
    {"image-passwd-write", image_file, "/etc/passwd"},
    {"image-file-write", image_file, "/etc/who"},
    {"image-file-remove", image_remove, "/etc/who"},
    {"job-hosts-write", image_file, "/etc/hosts"},
    {"job-resolv-write", image_file, "/etc/resolv.conf"},
    {"mount-point-workspace-moved", mount_point, "/workspace"},
    {"mount-point-layers-moved", mount_point, "/layers"},
    {"mount-point-proc-moved", mount_point, "/proc"},
    {"node-null", node, "c1:3"},
    {"node-mem", node, "c1:1"},
    {"node-kmsg", node, "c1:11"},
    {"node-tty", node, "c4:0"},
    {"node-fuse", node, "c10:229"},
    {"node-disk", node, "b8:0"},
    {"node-virtual-disk", node, "b254:0"},
    {"node-loop", node, "b7:0"},
    {"node-whiteout", node, "c0:0"},
    {"attribute-trusted-overlay", attribute, "trusted.overlay.opaque"},
    {"attribute-trusted", attribute, "trusted.attack"},
    {"attribute-capability", attribute, "security.capability"},
    {"attribute-selinux", attribute, "security.selinux"},
    {"attribute-ima", attribute, "security.ima"},
    {"socket-file-of-host", victims_socket, NULL},
    {"socket-file-docker", socket_file, "/var/run/docker.sock"},
    {"socket-file-run-docker", socket_file, "/run/docker.sock"},
    {"socket-file-containerd", socket_file, "/run/containerd/containerd.sock"},
    {"socket-file-systemd", socket_file, "/run/systemd/private"},
    {"socket-file-dbus", socket_file, "/run/dbus/system_bus_socket"},
    {"program-of-init-write", writes_through_exe, "/proc/1/exe"},
    {"program-of-init-by-task", writes_through_exe, "/proc/1/task/1/exe"},
    {"program-of-others", every_exe, NULL},
    {NULL, NULL, NULL},
};
