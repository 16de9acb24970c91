/* Terminals: typing into one that is not ours, and the machine's consoles. */
#include "attack.h"

#include <pty.h>
#include <sys/ioctl.h>

#ifndef TIOCLINUX
#define TIOCLINUX 0x541C
#endif

/* A terminal of the job's own, which it controls: nothing but the filter stands before the kernel. */
static int own_terminal(void) {
    int controller, terminal;
    if (openpty(&controller, &terminal, NULL, NULL, NULL) < 0) held("no terminals: %s", strerror(errno));
    if (setsid() < 0 || ioctl(terminal, TIOCSCTTY, 0) < 0) abort();
    return terminal;
}

static void refused_request(long result) {
    /* A kernel with `dev.tty.legacy_tiocsti` off says EIO. */
    if (result < 0 && errno == EIO) held("%s", strerror(errno));
    refused_call(result);
}

static void type(const char *high) {
    char letter = 'x';
    refused_request(syscall(SYS_ioctl, own_terminal(), strtoul(high, NULL, 16) | TIOCSTI, &letter));
}

static void console_of(const char *high) {
    char subcode[2] = {6, 0};
    refused_request(syscall(SYS_ioctl, own_terminal(), strtoul(high, NULL, 16) | TIOCLINUX, subcode));
}

static void discipline(const char *number) {
    int which = atoi(number);
    refused_request(ioctl(own_terminal(), TIOCSETD, &which));
}

static void redirect(const char *unused) { (void)unused; refused_request(ioctl(own_terminal(), TIOCCONS)); }

static void controlling(const char *unused) { (void)unused; refused_path(open("/dev/tty", O_RDWR)); }

static void steal(const char *unused) {
    (void)unused;
    setsid();
    for (int descriptor = 0; descriptor < 3; descriptor++) {
        if (isatty(descriptor)) broken("descriptor %d is a terminal", descriptor);
        if (ioctl(descriptor, TIOCSCTTY, 1) == 0) broken("descriptor %d controls us now", descriptor);
    }
    held("there is none");
}

/* Terminals of the machine: in the job's own /dev/pts there are only those that it made. */
static void others(const char *unused) {
    (void)unused;
    char path[64];
    for (int number = 0; number < 256; number++) {
        snprintf(path, sizeof path, "/dev/pts/%d", number);
        int terminal = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
        if (terminal >= 0) broken("opened %s", path);
    }
    held("none is there");
}

const struct attack attacks[] = {
    {"type", type, "0"}, {"type-high-bits", type, "100000000"}, {"type-all-high-bits", type, "ffffffff00000000"},
    {"console", console_of, "0"}, {"console-high-bits", console_of, "8000000000000000"},
    {"discipline-ppp", discipline, "3"}, {"discipline-gsm", discipline, "21"}, {"console-redirected", redirect, NULL},
    {"controlling-terminal", controlling, NULL}, {"terminal-stolen", steal, NULL}, {"terminals-of-others", others, NULL},
    {NULL, NULL, NULL},
};
