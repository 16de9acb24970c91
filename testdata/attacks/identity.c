/* Who one is: other ids, capabilities, set-user-id programs of the image and one's own. */
#include "attack.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static unsigned long capabilities(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}, {0, 0, 0}};
    if (syscall(SYS_capget, &head, data) < 0) abort();
    return data[0].effective | data[0].permitted | (unsigned long)data[1].effective << 32 | (unsigned long)data[1].permitted << 32;
}

static void none(const char *unused) {
    (void)unused;
    if (capabilities()) broken("%lx", capabilities());
    held("none");
}

static void bounding(const char *unused) {
    (void)unused;
    for (int number = 0; number < 64; number++)
        if (prctl(PR_CAPBSET_READ, number) > 0) broken("%d is in the bounding set", number);
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) broken("new privileges may come");
    held("nothing can come back");
}

static void groups(const char *unused) {
    (void)unused;
    gid_t list[64];
    int count = getgroups(64, list);
    for (int at = 0; at < count; at++)
        if (list[at] != getgid() && list[at] != 65534) broken("group %d", list[at]);
    held("%d groups, all of nobody", count < 0 ? 0 : count);
}

/* A user inside who is 0 keeps the number; what counts is whether another is to be had. */
static void become(const char *who) {
    uid_t id = (uid_t)strtoul(who, NULL, 10);
    if (id == getuid()) id = 1;
    if (setresuid(id, id, id) < 0) { if (errno == EINVAL) held("no such id"); refused_call(-1); }
    broken("became %u", getuid());
}

static void become_group(const char *who) {
    gid_t id = (gid_t)strtoul(who, NULL, 10);
    if (id == getgid()) id = 1;
    if (setresgid(id, id, id) < 0) { if (errno == EINVAL) held("no such id"); refused_call(-1); }
    broken("became group %u", getgid());
}

static void set_groups(const char *unused) {
    (void)unused;
    gid_t list[] = {0, 6, 42};
    if (setgroups(3, list) < 0) { if (errno == EINVAL) held("no such id"); refused_call(-1); }
    broken("has them");
}

static void file_system_id(const char *unused) {
    (void)unused;
    uid_t other = getuid() == 0 ? 1 : 0;
    setfsuid(other);
    if ((uid_t)setfsuid(other) == other) broken("has it");
    held("not for us");
}

static void raise_all(const char *unused) {
    (void)unused;
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{~0U, ~0U, ~0U}, {~0U, ~0U, ~0U}};
    refused_call(syscall(SYS_capset, &head, data));
}

static void ambient(const char *unused) {
    (void)unused;
    refused_call(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
}

static void secure_bits(const char *unused) {
    (void)unused;
    refused_call(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP, 0, 0, 0));
}

static void new_privileges(const char *unused) {
    (void)unused;
    prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0);
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) broken("they may come");
    held("%s", strerror(errno));
}

/* What a program is that had the set-user-id bit or capabilities: its exit code says. */
static void gains(const char *path) {
    int status;
    char uid[16], gid[16];
    snprintf(uid, sizeof uid, "%u", geteuid());
    snprintf(gid, sizeof gid, "%u", getegid());
    pid_t child = fork();
    if (child == 0) {
        setenv("ATTACK_EUID", uid, 1);
        setenv("ATTACK_EGID", gid, 1);
        execl(path, path, "still-the-same", (char *)NULL);
        _exit(errno == ENOENT ? 90 : 91);
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 90) abort();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 91) held("it does not run");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) held("it runs as who started it");
    broken("it gained something: status %x", status);
}

static void own_set_user_id(const char *path) {
    copy_self(path, 0777);
    if (chmod(path, 06777) < 0) held("no such bit: %s", strerror(errno));
    gains(path);
}

static void given_away(const char *unused) {
    (void)unused;
    copy_self("/tmp/given", 0755);
    uid_t other = getuid() == 0 ? 1 : 0;
    if (chown("/tmp/given", other, other) < 0) { if (errno == EINVAL) held("no such id"); refused_call(-1); }
    broken("it is another's");
}

static void group_given_away(const char *unused) {
    (void)unused;
    copy_self("/tmp/given", 0755);
    gid_t other = getgid() == 0 ? 1 : 0;
    if (chown("/tmp/given", -1, other) < 0) { if (errno == EINVAL) held("no such id"); refused_call(-1); }
    broken("it is another group's");
}

static void account(const char *path) { refused_path(open(path, O_RDWR)); }

/* Not an attack: what `gains` starts, before there is a table. */
__attribute__((constructor)) static void before_main(int count, char **arguments) {
    if (count != 2 || strcmp(arguments[1], "still-the-same")) return;
    const char *uid = getenv("ATTACK_EUID"), *gid = getenv("ATTACK_EGID");
    if (!uid || !gid) _exit(92);
    _exit(geteuid() != strtoul(uid, NULL, 10) || getegid() != strtoul(gid, NULL, 10) ? 1 : capabilities() ? 2 : 0);
}

const struct attack attacks[] = {
    {"capabilities", none, NULL}, {"capabilities-bounding", bounding, NULL}, {"capabilities-raised", raise_all, NULL},
    {"capabilities-ambient", ambient, NULL}, {"secure-bits", secure_bits, NULL}, {"new-privileges", new_privileges, NULL},
    {"groups-of-the-worker", groups, NULL}, {"become-root", become, "0"}, {"become-daemon", become, "1"},
    {"become-nobody", become, "65534"}, {"become-host-user", become, "1000"}, {"become-group-root", become_group, "0"},
    {"become-group-disk", become_group, "6"}, {"become-group-shadow", become_group, "42"}, {"set-groups", set_groups, NULL},
    {"file-system-id", file_system_id, NULL}, {"set-user-id-of-the-image", gains, "/setuid-root"},
    {"set-group-id-of-the-image", gains, "/setgid-root"}, {"file-capability-of-the-image", gains, "/capable"},
    {"set-user-id-in-workspace", own_set_user_id, "/workspace/set-user-id"}, {"set-user-id-in-tmp", own_set_user_id, "/tmp/set-user-id"},
    {"set-user-id-in-layers", own_set_user_id, "/layers/set-user-id"}, {"file-given-to-root", given_away, NULL},
    {"file-given-to-group", group_given_away, NULL}, {"image-shadow", account, "/etc/shadow"}, {"image-sudoers", account, "/etc/sudoers"},
    {"image-group", account, "/etc/group"},
    {NULL, NULL, NULL},
};
