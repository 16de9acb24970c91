/* No attack: makes a tree of everything that is hard to export, in the folder that it is given. The same each time. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { DEPTH = 150 };

static void must(int result, const char *what) {
    if (result >= 0) return;
    perror(what);
    exit(1);
}

static void file(const char *name, const char *text, mode_t mode) {
    int made = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
    must(made, name);
    must(write(made, text, strlen(text)), name);
    must(fchmod(made, mode), name);
    close(made);
}

static void folder(const char *name, mode_t mode) {
    must(mkdir(name, 0700), name);
    must(chmod(name, mode), name);
}

static void links(void) {
    const char *targets[] = {
        "/etc/shadow", "../../../../../../etc/shadow", "/proc/self/root/etc/shadow", "/proc/1/environ", ".", "..", "/",
        "nowhere", "loop-8", "with\nnewline", "\xff\xfe", "-rf *", "link-0/../link-1", "./file", "file",
    };
    char name[64], target[4000];
    for (unsigned number = 0; number < sizeof targets / sizeof *targets; number++) {
        snprintf(name, sizeof name, "link-%u", number);
        must(symlink(targets[number], name), name);
    }
    must(symlink("loop-9", "loop-8"), "loop-8");
    must(symlink("loop-8", "loop-9"), "loop-9");
    memset(target, 't', sizeof target - 1);
    target[sizeof target - 1] = 0;
    must(symlink(target, "link-long"), "link-long");
}

static void names(void) {
    const char *all[] = {
        "-rf *", "--", " ", "with\nnewline", "with\ttab", "with\rreturn", "\xff\xfe\x80", "caf\xc3\xa9", "cafe\xcc\x81", "\x1b[31mred",
        ".wh.x", ".wh..wh..opq", ".wh..wh.plnk", ".wh.", "..data", "...", "c1:3", "null", "b8:0", "$(reboot)", "`id`", ";", "\\", "\"", "'",
        "%s%n", "a=b", "A", "a",
    };
    char longest[256];
    for (unsigned number = 0; number < sizeof all / sizeof *all; number++) file(all[number], "named", 0644);
    memset(longest, 'n', 255);
    longest[255] = 0;
    file(longest, "long", 0644);
}

static void kinds(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    must(bind(server, (struct sockaddr *)&address, sizeof address), "socket");
    close(server);
    must(mkfifo("fifo", 0622), "fifo");
    file("set-user-id", "s", 04755);
    file("set-group-id", "s", 02755);
    file("sticky", "s", 01644);
    file("without-mode", "s", 0);
    file("all-bits", "s", 07777);
    folder("folder-without-mode", 0);
    folder("folder-all-bits", 07777);
    folder("folder-empty", 0755);
    must(mkdir("folder-closed", 0700), "folder-closed");
    file("folder-closed/inside", "closed", 0600);
    must(chmod("folder-closed", 0), "folder-closed");
    int sparse = open("sparse", O_CREAT | O_WRONLY, 0644);
    must(sparse, "sparse");
    must(pwrite(sparse, "middle", 6, 3 << 20), "sparse");
    must(ftruncate(sparse, 8 << 20), "sparse");
    close(sparse);
    file("file", "linked", 0644);
    must(link("file", "hard-link"), "hard-link");
    must(link("file", "-hard-link-before"), "hard-link");
    must(linkat(AT_FDCWD, "link-0", AT_FDCWD, "hard-link-of-link", 0), "hard-link-of-link");
    must(link("fifo", "hard-link-of-fifo"), "hard-link-of-fifo");
    /* Not every file system has them; they are not exported either way. */
    setxattr("file", "user.comment", "x", 1, 0);
    setxattr("folder-empty", "user.overlay.opaque", "y", 1, 0);
    setxattr("folder-empty", "user.overlay.redirect", "/etc", 4, 0);
    setxattr("file", "user.overlay.metacopy", "", 0, 0);
    struct timespec times[2] = {{1, 1}, {-1, 999999999}};
    utimensat(AT_FDCWD, "file", times, 0);
}

static void deep(void) {
    folder("deep", 0755);
    must(chdir("deep"), "deep");
    for (int depth = 0; depth < DEPTH; depth++) {
        folder("deeper-and-deeper", 0755);
        must(chdir("deeper-and-deeper"), "deeper");
    }
    file("bottom", "deep", 0644);
}

int main(int count, char **arguments) {
    umask(0);
    if (count != 2) return 2;
    must(mkdir(arguments[1], 0755), arguments[1]);
    must(chdir(arguments[1]), arguments[1]);
    links();
    names();
    kinds();
    deep();
    return 0;
}
