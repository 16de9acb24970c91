/* Runs attacks, each in a process of its own, and prints a line for each: NAME held|broken|absent|crashed WHY. */
#include "attack.h"

#include <stdarg.h>
#include <sys/auxv.h>
#include <sys/mman.h>

enum { WORDS_MAX = 400, SECONDS_MAX = 20 };

/* Shared with the process of the attack. */
static char *verdict;

static _Noreturn void end(const char *word, const char *format, va_list values) {
    int length = snprintf(verdict, WORDS_MAX, "%s ", word);
    vsnprintf(verdict + length, WORDS_MAX - length, format, values);
    for (char *at = verdict; *at; at++)
        if ((unsigned char)*at < ' ' || (unsigned char)*at > '~') *at = '?';
    _exit(0);
}

#define VERDICT(word)                                                                                                  \
    void word(const char *format, ...) {                                                                               \
        va_list values;                                                                                                \
        va_start(values, format);                                                                                      \
        end(#word, format, values);                                                                                    \
    }
VERDICT(held)
VERDICT(broken)
VERDICT(absent)

void refused_call(long result) {
    if (result >= 0) broken("it succeeded: %ld", result);
    if (errno == EPERM || errno == EACCES || errno == ENOSYS) held("%s", strerror(errno));
    broken("the kernel went on: %s", strerror(errno));
}

void refused_path(long result) {
    if (result >= 0) broken("it succeeded: %ld", result);
    switch (errno) {
    case EPERM: case EACCES: case ENOSYS: case ENOENT: case ENOTDIR: case EROFS: case ENXIO: case ELOOP: case EXDEV:
    case EBUSY: case ENODEV: case ESRCH:
        held("%s", strerror(errno));
    default:
        broken("the kernel went on: %s", strerror(errno));
    }
}

const char *victim(const char *name) {
    char variable[64];
    snprintf(variable, sizeof variable, "VICTIM_%s", name);
    const char *value = getenv(variable);
    if (!value) abort();
    return value;
}

int victim_number(const char *name) { return atoi(victim(name)); }

int reads_canary(int descriptor) {
    char text[4096];
    ssize_t length = read(descriptor, text, sizeof text);
    const char *canary = victim("CANARY");
    return length > 0 && memmem(text, length, canary, strlen(canary)) != NULL;
}

void holds_no_canary(const char *path) {
    int file = open(path, O_RDONLY | O_NONBLOCK);
    if (file < 0) refused_path(file);
    if (reads_canary(file)) broken("read the canary");
    held("opened, but it is another file");
}

int own_processes(void) { return getenv("ATTACK_OWN_PROCESSES") != NULL; }

void write_file(const char *path, const char *text, mode_t mode) {
    unlink(path);
    int file = open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
    if (file < 0 || write(file, text, strlen(text)) < 0 || fchmod(file, mode) < 0) abort();
    close(file);
}

void copy_self(const char *to, mode_t mode) {
    char block[65536];
    ssize_t length;
    unlink(to);
    int from = open("/proc/self/exe", O_RDONLY);
    /* Without /proc, by the name that it was started with. */
    if (from < 0) from = open((const char *)getauxval(AT_EXECFN), O_RDONLY);
    int file = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0700);
    if (from < 0 || file < 0) abort();
    while ((length = read(from, block, sizeof block)) > 0)
        if (write(file, block, length) != length) abort();
    if (fchmod(file, mode) < 0) abort();
    close(file);
    close(from);
}

static void run(const struct attack *attack) {
    int status = 0;
    verdict[0] = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(SECONDS_MAX);
        attack->try(attack->argument);
        _exit(0);
    }
    if (child > 0) waitpid(child, &status, 0);
    if (verdict[0])
        printf("%s %s\n", attack->name, verdict);
    else if (child > 0 && WIFSIGNALED(status))
        printf("%s crashed by signal %d\n", attack->name, WTERMSIG(status));
    else
        printf("%s crashed without a verdict\n", attack->name);
    fflush(stdout);
}

int main(int count, char **arguments) {
    verdict = mmap(NULL, WORDS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (verdict == MAP_FAILED) return 2;
    if (count > 1 && !strcmp(arguments[1], "--list")) {
        for (const struct attack *attack = attacks; attack->name; attack++) puts(attack->name);
        return 0;
    }
    for (const struct attack *attack = attacks; attack->name; attack++) {
        int wanted = count == 1;
        for (int at = 1; at < count; at++) wanted |= !strcmp(arguments[at], attack->name);
        if (wanted) run(attack);
    }
    return 0;
}
