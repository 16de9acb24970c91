/* A library that is loaded into packhorse itself, where a script's interpreter is `/proc/self/exe` (CVE-2019-5736). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void) {
    char name[4096] = "";
    ssize_t length = readlink("/proc/self/exe", name, sizeof name - 1);
    const char *what = length > 0 ? name : strerror(errno);
    int is_copy = strstr(name, "memfd:") != NULL;
    int mode = chmod("/proc/self/exe", 06755), why = errno;
    printf("script-changes-mode %s %s: %s\n", mode == 0 && !is_copy ? "broken" : "held", what, mode == 0 ? "changed" : strerror(why));
    int writing = open("/proc/self/exe", O_WRONLY);
    why = errno;
    int breach = writing >= 0 || (why == ETXTBSY && !is_copy);
    printf("script-writes %s %s: %s\n", breach ? "broken" : "held", what, writing >= 0 ? "opened" : strerror(why));
    fflush(stdout);
    _exit(0);
}
