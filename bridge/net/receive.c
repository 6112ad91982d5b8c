/* One pass over the media sockets: of every socket that holds something one datagram, with the kernel's stamp and its
 * sender. What `bridge/net/receive.py` does per datagram in Python, in a fifth of the time; loaded by ctypes, so that it
 * needs no Python headers and fits every Python. Linux.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define MOST_EVENTS 4096

static const uint8_t MAPPED[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* The sender as `bridge.media.arrivals` packs it: 16 bytes of address (IPv4 mapped, RFC 4291 2.5.5.2), 2 of port. */
static void pack(const struct sockaddr_storage *from, uint8_t packed[24])
{
    memset(packed, 0, 24);
    if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        memcpy(packed, &in6->sin6_addr, 16);
        memcpy(packed + 16, &in6->sin6_port, 2);
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        memcpy(packed, MAPPED, 12);
        memcpy(packed + 12, &in->sin_addr, 4);
        memcpy(packed + 16, &in->sin_port, 2);
    }
}

/* Nanoseconds of Unix time at which the kernel got it; 0 where it was not stamped. */
static int64_t stamp(struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec at;
            memcpy(&at, CMSG_DATA(c), sizeof at);
            return at.tv_sec * 1000000000LL + at.tv_nsec;
        }
    return 0;
}

/* Answers how many datagrams were read, at most `most`; `data` is [most, stride] bytes, `sources` [most, 24]. A socket
 * that had an error to report (ICMP, of something sent earlier) is passed over. */
int32_t callbridge_receive_1(int32_t epoll, int32_t most, int64_t stride, uint8_t *data, int64_t *files,
                             int64_t *lengths, int64_t *stamps, uint8_t *sources)
{
    struct epoll_event ready[MOST_EVENTS];
    int32_t taken = 0;
    int n = epoll_wait(epoll, ready, most < MOST_EVENTS ? most : MOST_EVENTS, 0);

    for (int i = 0; i < n; i++) {
        struct sockaddr_storage from;
        struct iovec into = {data + stride * taken, (size_t)stride};
        union { struct cmsghdr aligned; uint8_t bytes[CMSG_SPACE(sizeof(struct timespec))]; } control;
        struct msghdr message = {&from, sizeof from, &into, 1, &control, sizeof control, 0};
        ssize_t length = recvmsg(ready[i].data.fd, &message, MSG_DONTWAIT);

        if (length < 0)
            continue;
        files[taken] = ready[i].data.fd;
        lengths[taken] = length;
        stamps[taken] = stamp(&message);
        pack(&from, sources + 24 * taken);
        taken++;
    }
    return taken;
}
