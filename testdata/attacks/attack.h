/* What every attack uses: the table, the three verdicts, and the victims that the test names in the environment. */
#ifndef ATTACK_H
#define ATTACK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* One attack. `try` ends in a verdict; `argument` is for attacks that share a function. */
struct attack {
    const char *name;
    void (*try)(const char *argument);
    const char *argument;
};

/* The attacks of this program; the last has no name. */
extern const struct attack attacks[];

/* The verdicts: the sandbox refused it; it did not; this kernel or machine has no such thing. None returns. */
_Noreturn void held(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void absent(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Of a system call: held if it was refused, broken if it succeeded or if the kernel went on to look at its arguments. */
_Noreturn void refused_call(long result);
/* Of something that has a path: held also if it is not there, or cannot be written. */
_Noreturn void refused_path(long result);

/* What the test says of a victim; the program ends without a verdict if it says nothing. */
const char *victim(const char *name);
int victim_number(const char *name);

/* Whether the bytes of a descriptor begin with, or a file has, the canary. */
int reads_canary(int descriptor);
_Noreturn void holds_no_canary(const char *path);

/* Whether this process has a pid namespace of its own, so that a signal to PID 1 hits nobody else. */
int own_processes(void);

/* Writes a whole file, or ends without a verdict. */
void write_file(const char *path, const char *text, mode_t mode);
void copy_self(const char *to, mode_t mode);

#endif
