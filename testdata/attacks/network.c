/* Sockets: other hosts and this one, kinds that a build does not need, the network's settings, IPC of the machine. */
#include "attack.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/if_alg.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <mqueue.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

/* Addresses that are not the test's own are dialled only where no device could carry anything. */
static void only_without_device(void) {
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0) return;
    for (struct ifaddrs *one = list; one; one = one->ifa_next)
        if ((one->ifa_flags & IFF_UP) && !(one->ifa_flags & IFF_LOOPBACK))
            held("not tried: there is a device, %s", one->ifa_name);
}

static void patience(int connection) {
    struct timeval limit = {5, 0};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static void unreached(long result) {
    if (result >= 0) broken("it is connected");
    switch (errno) {
    case ENETUNREACH: case EHOSTUNREACH: case ECONNREFUSED: case ECONNRESET: case EACCES: case EPERM: case EADDRNOTAVAIL:
    case EAFNOSUPPORT: case ENOENT: case EINVAL:
        held("%s", strerror(errno));
    default:
        broken("not refused at once: %s", strerror(errno));
    }
}

/* The victim says the canary to whoever connects. A gateway may take the connection and end it. */
static _Noreturn void dial(int family, const char *address, int port, int type) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    only_without_device();
    inet_pton(family, address, family == AF_INET ? (void *)&v4.sin_addr : (void *)&v6.sin6_addr);
    int connection = socket(family, type, 0);
    if (connection < 0) unreached(-1);
    patience(connection);
    int result = family == AF_INET ? connect(connection, (struct sockaddr *)&v4, sizeof v4)
                                   : connect(connection, (struct sockaddr *)&v6, sizeof v6);
    if (result < 0) unreached(result);
    if (type == SOCK_DGRAM && send(connection, "canary?", 7, MSG_NOSIGNAL) < 0) unreached(-1);
    if (type == SOCK_STREAM) send(connection, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL);
    if (reads_canary(connection)) broken("%s port %d said the canary", address, port);
    held("connected to nobody: %s", strerror(errno));
}

static void tcp(const char *address) { dial(strchr(address, ':') ? AF_INET6 : AF_INET, address, victim_number("PORT"), SOCK_STREAM); }
static void udp(const char *address) { dial(AF_INET, address, victim_number("PORT"), SOCK_DGRAM); }
static void metadata(const char *address) { dial(AF_INET, address, 80, SOCK_STREAM); }
static void docker(const char *address) { dial(AF_INET, address, 2375, SOCK_STREAM); }
static void names(const char *address) { dial(AF_INET, address, 53, SOCK_DGRAM); }

static void abstract(const char *suffix) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int connection = socket(AF_UNIX, suffix[0] ? SOCK_DGRAM : SOCK_STREAM, 0);
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "%s%s", victim("ABSTRACT"), suffix);
    unreached(connect(connection, (struct sockaddr *)&address, sizeof(sa_family_t) + 1 + length));
}

static void abstract_listed(const char *unused) {
    (void)unused;
    char line[4096];
    FILE *list = fopen("/proc/net/unix", "r");
    if (!list) refused_path(-1);
    while (fgets(line, sizeof line, list))
        if (strstr(line, victim("ABSTRACT"))) broken("listed");
    held("not listed");
}

static void kind(const char *which) {
    int family, type, protocol;
    if (sscanf(which, "%d %d %d", &family, &type, &protocol) != 3) abort();
    int made = socket(family, type, protocol);
    if (made >= 0) broken("made");
    if (errno == EAFNOSUPPORT || errno == EPROTONOSUPPORT || errno == ESOCKTNOSUPPORT) absent("%s", strerror(errno));
    refused_call(-1);
}

/* One netlink request; held if the kernel says no. */
static void ask_kernel(int family, int type, int flags, const void *body, size_t length) {
    struct {
        struct nlmsghdr head;
        char body[512];
    } message = {.head = {.nlmsg_len = NLMSG_LENGTH(length), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags}};
    char answer[4096];
    memcpy(message.body, body, length);
    int kernel = socket(AF_NETLINK, SOCK_RAW, family);
    if (kernel < 0 && errno == EPROTONOSUPPORT) absent("%s", strerror(errno));
    if (kernel < 0) refused_call(kernel);
    patience(kernel);
    if (send(kernel, &message, message.head.nlmsg_len, 0) < 0) {
        if (errno == ECONNREFUSED) absent("nobody answers there");
        refused_call(-1);
    }
    ssize_t got = recv(kernel, answer, sizeof answer, 0);
    struct nlmsghdr *head = (struct nlmsghdr *)answer;
    if (got < (ssize_t)NLMSG_LENGTH(sizeof(int)) || head->nlmsg_type != NLMSG_ERROR) broken("it answers %zd bytes of type %d", got, head->nlmsg_type);
    errno = -((struct nlmsgerr *)NLMSG_DATA(head))->error;
    if (errno == 0) broken("it did it");
    if (errno == ECONNREFUSED) held("%s", strerror(errno));
    refused_call(-1);
}

static void attribute(char *body, size_t *length, unsigned short type, const void *value, unsigned short size) {
    struct rtattr head = {RTA_LENGTH(size), type};
    memcpy(body + *length, &head, sizeof head);
    memcpy(body + *length + RTA_LENGTH(0), value, size);
    *length += RTA_SPACE(size);
}

static void add_address(const char *unused) {
    (void)unused;
    char body[256] = {0};
    struct ifaddrmsg message = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = 1};
    size_t length = NLMSG_ALIGN(sizeof message);
    unsigned address = htonl(0xc6336401); /* 198.51.100.1 */
    memcpy(body, &message, sizeof message);
    attribute(body, &length, IFA_LOCAL, &address, 4);
    ask_kernel(NETLINK_ROUTE, RTM_NEWADDR, NLM_F_CREATE, body, length);
}

static void route(const char *how) {
    char body[256] = {0};
    struct rtmsg message = {.rtm_family = AF_INET, .rtm_table = 254, .rtm_protocol = 3, .rtm_scope = 253, .rtm_type = 1};
    size_t length = NLMSG_ALIGN(sizeof message);
    unsigned device = 1;
    if (how[0] == 'd') message.rtm_type = RTN_LOCAL, message.rtm_table = 255, message.rtm_scope = RT_SCOPE_NOWHERE;
    memcpy(body, &message, sizeof message);
    attribute(body, &length, RTA_OIF, &device, 4);
    ask_kernel(NETLINK_ROUTE, how[0] == 'd' ? RTM_DELROUTE : RTM_NEWROUTE, how[0] == 'd' ? 0 : NLM_F_CREATE, body, length);
}

static void link_down(const char *unused) {
    (void)unused;
    struct ifinfomsg message = {.ifi_index = 1, .ifi_flags = 0, .ifi_change = IFF_UP};
    ask_kernel(NETLINK_ROUTE, RTM_NEWLINK, 0, &message, sizeof message);
}

static void new_link(const char *type) {
    char body[256] = {0};
    struct ifinfomsg message = {0};
    size_t length = NLMSG_ALIGN(sizeof message), start;
    memcpy(body, &message, sizeof message);
    attribute(body, &length, IFLA_IFNAME, "attack0", 8);
    start = length;
    length += RTA_LENGTH(0);
    attribute(body, &length, IFLA_INFO_KIND, type, strlen(type));
    struct rtattr head = {length - start, IFLA_LINKINFO};
    memcpy(body + start, &head, sizeof head);
    ask_kernel(NETLINK_ROUTE, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, length);
}

static void move_link(const char *unused) {
    (void)unused;
    char body[256] = {0};
    struct ifinfomsg message = {.ifi_index = 1};
    size_t length = NLMSG_ALIGN(sizeof message);
    int process = 1;
    memcpy(body, &message, sizeof message);
    attribute(body, &length, IFLA_NET_NS_PID, &process, 4);
    ask_kernel(NETLINK_ROUTE, RTM_NEWLINK, 0, body, length);
}

static void netlink(const char *which) {
    struct rtgenmsg message = {AF_INET};
    int family, type;
    if (sscanf(which, "%d %d", &family, &type) != 2) abort();
    ask_kernel(family, type, 0, &message, sizeof message);
}

static void device_setting(const char *which) {
    struct ifreq request = {0};
    struct rtentry way = {0};
    strcpy(request.ifr_name, "lo");
    request.ifr_addr.sa_family = AF_INET;
    int control = socket(AF_INET, SOCK_DGRAM, 0);
    if (control < 0) refused_call(control);
    if (!strcmp(which, "address")) refused_call(ioctl(control, SIOCSIFADDR, &request));
    if (!strcmp(which, "flags")) refused_call(ioctl(control, SIOCSIFFLAGS, &request));
    if (!strcmp(which, "mtu")) refused_call(ioctl(control, SIOCSIFMTU, &request));
    if (!strcmp(which, "bridge")) refused_call(ioctl(control, SIOCBRADDBR, "attack0"));
    refused_call(ioctl(control, SIOCADDRT, &way));
}

static void option(const char *which) {
    int one = 1, big = 1 << 28, level, name;
    char room[4096] = "filter";
    socklen_t length = sizeof room;
    int control = socket(AF_INET, SOCK_STREAM, 0);
    if (!strcmp(which, "mark")) refused_call(setsockopt(control, SOL_SOCKET, SO_MARK, &one, sizeof one));
    if (!strcmp(which, "debug")) refused_call(setsockopt(control, SOL_SOCKET, SO_DEBUG, &one, sizeof one));
    if (!strcmp(which, "send-buffer")) refused_call(setsockopt(control, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big));
    if (!strcmp(which, "receive-buffer")) refused_call(setsockopt(control, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big));
    if (!strcmp(which, "transparent")) refused_call(setsockopt(control, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof one));
    if (!strcmp(which, "repair")) refused_call(setsockopt(control, IPPROTO_TCP, TCP_REPAIR, &one, sizeof one));
    level = IPPROTO_IP, name = 64; /* IPT_SO_GET_INFO, IPT_SO_SET_REPLACE */
    if (!strcmp(which, "tables-read")) {
        if (getsockopt(control, level, name, room, &length) < 0 && errno == ENOPROTOOPT) absent("%s", strerror(errno));
        else if (errno == EPERM) held("%s", strerror(errno));
        broken("%s", strerror(errno));
    }
    if (setsockopt(control, level, name, room, sizeof room) < 0 && errno == ENOPROTOOPT) absent("%s", strerror(errno));
    refused_call(-1);
}

static void shared_memory(const char *unused) {
    (void)unused;
    int segment = shmget(victim_number("KEY"), 0, 0);
    if (segment < 0) refused_path(segment);
    char *memory = shmat(segment, NULL, SHM_RDONLY);
    if (memory != (void *)-1 && strstr(memory, victim("CANARY"))) broken("read the canary");
    broken("found: %s", strerror(errno));
}

static void shared_memory_by_number(const char *unused) {
    (void)unused;
    struct shmid_ds status;
    for (int index = 0; index < 256; index++) {
        int segment = shmctl(index, SHM_STAT, &status);
        if (segment >= 0) broken("segment %d is listed", segment);
    }
    held("none listed");
}

static void semaphores(const char *unused) { (void)unused; refused_path(semget(victim_number("KEY"), 0, 0)); }
static void messages(const char *unused) { (void)unused; refused_path(msgget(victim_number("KEY"), 0)); }
static void queue(const char *unused) { (void)unused; refused_path(mq_open("/packhorse-victim", O_RDONLY)); }

/* Anything that came with the start and speaks: a control socket would pass descriptors of the machine. */
static void control_socket(const char *unused) {
    (void)unused;
    char text[4096], room[CMSG_SPACE(sizeof(int) * 16)];
    for (int descriptor = 0; descriptor < 4096; descriptor++) {
        struct stat status;
        struct iovec data = {text, sizeof text};
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
        if (fstat(descriptor, &status) < 0 || !S_ISSOCK(status.st_mode)) continue;
        ssize_t got = recvmsg(descriptor, &message, MSG_DONTWAIT);
        broken("descriptor %d is a socket; %zd bytes and %zu of control", descriptor, got, (size_t)message.msg_controllen);
    }
    held("no socket came with the start");
}

/* Credentials of others in a message. */
static void forged_credentials(const char *unused) {
    (void)unused;
    int ends[2];
    char room[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct iovec data = {"x", 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    struct ucred other = {1, getuid(), getgid()};
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0) abort();
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_CREDENTIALS, head->cmsg_len = CMSG_LEN(sizeof other);
    memcpy(CMSG_DATA(head), &other, sizeof other);
    refused_call(sendmsg(ends[0], &message, 0));
}

const struct attack attacks[] = {
    {"host-loopback", tcp, "127.0.0.1"}, {"host-loopback-2", tcp, "127.0.0.2"}, {"host-any-address", tcp, "0.0.0.0"},
    {"host-loopback-6", tcp, "::1"}, {"host-mapped-6", tcp, "::ffff:127.0.0.1"}, {"host-public-address", tcp, "203.0.113.9"},
    {"host-private-address", tcp, "10.11.12.1"}, {"host-mapped-private", tcp, "::ffff:10.11.12.1"},
    {"host-nat64", tcp, "64:ff9b::7f00:1"}, {"host-udp", udp, "127.0.0.1"}, {"host-udp-public", udp, "203.0.113.9"},
    {"host-metadata", metadata, "169.254.169.254"}, {"host-docker-tcp", docker, "127.0.0.1"},
    {"host-name-server", names, "127.0.0.53"}, {"host-broadcast", udp, "255.255.255.255"},
    {"abstract-stream", abstract, ""}, {"abstract-datagram", abstract, "-datagram"}, {"abstract-listed", abstract_listed, NULL},
    {"socket-raw-icmp", kind, "2 3 1"}, {"socket-raw-tcp", kind, "2 3 6"}, {"socket-raw-6", kind, "10 3 58"},
    {"socket-packet", kind, "17 3 768"}, {"socket-packet-datagram", kind, "17 2 768"}, {"socket-alg", kind, "38 5 0"},
    {"socket-vsock", kind, "40 1 0"}, {"socket-xdp", kind, "44 3 0"}, {"socket-key", kind, "15 3 2"},
    {"socket-bluetooth", kind, "31 3 1"}, {"socket-can", kind, "29 3 1"}, {"socket-tipc", kind, "30 5 0"},
    {"socket-rds", kind, "21 5 0"}, {"socket-smc", kind, "43 1 0"}, {"socket-x25", kind, "9 5 0"},
    {"socket-ax25", kind, "3 5 0"}, {"socket-appletalk", kind, "5 2 0"}, {"socket-llc", kind, "26 1 0"},
    {"socket-pppox", kind, "24 1 0"}, {"socket-kcm", kind, "41 5 0"}, {"socket-qrtr", kind, "42 2 0"},
    {"netlink-add-address", add_address, NULL}, {"netlink-add-route", route, "add"}, {"netlink-delete-route", route, "delete"},
    {"netlink-link-down", link_down, NULL}, {"netlink-new-dummy", new_link, "dummy"}, {"netlink-new-veth", new_link, "veth"},
    {"netlink-new-bridge", new_link, "bridge"}, {"netlink-move-link", move_link, NULL},
    {"netlink-netfilter", netlink, "12 16"}, {"netlink-xfrm", netlink, "6 16"}, {"netlink-audit", netlink, "9 1000"},
    {"setting-address", device_setting, "address"}, {"setting-flags", device_setting, "flags"},
    {"setting-mtu", device_setting, "mtu"}, {"setting-route", device_setting, "route"},
    {"setting-bridge", device_setting, "bridge"}, {"option-mark", option, "mark"},
    {"option-send-buffer", option, "send-buffer"}, {"option-receive-buffer", option, "receive-buffer"},
    {"option-transparent", option, "transparent"}, {"option-repair", option, "repair"}, {"option-debug", option, "debug"},
    {"option-tables-read", option, "tables-read"}, {"option-tables-write", option, "tables-write"},
    {"ipc-shared-memory", shared_memory, NULL}, {"ipc-shared-memory-listed", shared_memory_by_number, NULL},
    {"ipc-semaphores", semaphores, NULL}, {"ipc-messages", messages, NULL}, {"ipc-queue", queue, NULL},
    {"control-socket", control_socket, NULL}, {"forged-credentials", forged_credentials, NULL},
    {NULL, NULL, NULL},
};
