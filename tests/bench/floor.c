/* The floor: the least work that any program in the service's place must do. Receives RTP on one port per leg and sends
 * the payloads on as masked WebSocket frames of 100 ms, one connection per leg. No jitter buffer, no decoding, no gate,
 * no results read, no Redis.
 *
 *   cc -O2 -o floor floor.c && ./floor LEGS SINK_PORT
 *
 * Prints "ready PORT PORT ..." when it listens, runs until its standard input ends, then prints one JSON line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK_PACKETS 5    /* 100 ms of 20 ms packets */
#define BATCH 16           /* datagrams per recvmmsg */
#define PACKET_BYTES 1500
#define FRAME_HEAD 8       /* 2 + extended length + masking key */

struct leg {
    int udp, tcp, packets, used;
    unsigned char frame[FRAME_HEAD + CHUNK_PACKETS * PACKET_BYTES];
};

static unsigned long received, frames;

static void fail(const char *what) { perror(what); exit(1); }

static void connect_sink(struct leg *leg, int port) {
    static const char request[] = "GET /v1/listen?encoding=mulaw&sample_rate=8000 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char reply[1024];
    int one = 1;
    if ((leg->tcp = socket(AF_INET, SOCK_STREAM, 0)) < 0) fail("socket");
    if (connect(leg->tcp, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(leg->tcp, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (write(leg->tcp, request, sizeof request - 1) < 0 || read(leg->tcp, reply, sizeof reply) <= 0) fail("upgrade");
}

static int bind_leg(struct leg *leg) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int buffer = 256 * 1024;
    if ((leg->udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)) < 0) fail("socket");
    setsockopt(leg->udp, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bind(leg->udp, (struct sockaddr *)&at, sizeof at)) fail("bind");
    getsockname(leg->udp, (struct sockaddr *)&at, &size);
    return ntohs(at.sin_port);
}

static void flush_leg(struct leg *leg) {
    static const unsigned char key[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char *payload = leg->frame + FRAME_HEAD;
    leg->frame[0] = 0x82;
    leg->frame[1] = 0x80 | 126;
    leg->frame[2] = leg->used >> 8;
    leg->frame[3] = leg->used & 0xff;
    memcpy(leg->frame + 4, key, 4);
    for (int i = 0; i < leg->used; i++) payload[i] ^= key[i & 3];
    if (write(leg->tcp, leg->frame, FRAME_HEAD + leg->used) < 0 && errno != EAGAIN) fail("write");
    frames++;
    leg->packets = leg->used = 0;
}

static void receive(struct leg *leg) {
    static unsigned char data[BATCH][PACKET_BYTES];
    static struct iovec slices[BATCH];
    static struct mmsghdr messages[BATCH];
    int n;
    for (int i = 0; i < BATCH; i++) {
        slices[i] = (struct iovec){data[i], PACKET_BYTES};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &slices[i], .msg_iovlen = 1};
    }
    if ((n = recvmmsg(leg->udp, messages, BATCH, MSG_DONTWAIT, NULL)) <= 0) return;
    for (int i = 0; i < n; i++) {
        int size = (int)messages[i].msg_len - 12;
        if (size <= 0) continue;
        received++;
        memcpy(leg->frame + FRAME_HEAD + leg->used, data[i] + 12, size);
        leg->used += size;
        if (++leg->packets == CHUNK_PACKETS) flush_leg(leg);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: floor LEGS SINK_PORT\n"); return 2; }
    int n_legs = atoi(argv[1]), poll = epoll_create1(0), done = 0;
    struct leg *legs = calloc(n_legs, sizeof *legs);
    static struct epoll_event ready[4096];
    printf("ready");
    for (int i = 0; i < n_legs; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &legs[i]};
        connect_sink(&legs[i], atoi(argv[2]));
        printf(" %d", bind_leg(&legs[i]));
        if (epoll_ctl(poll, EPOLL_CTL_ADD, legs[i].udp, &event)) fail("epoll_ctl");
    }
    struct epoll_event input = {.events = EPOLLIN | EPOLLHUP, .data.ptr = NULL};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, 0, &input)) fail("stdin");
    printf("\n");
    fflush(stdout);
    while (!done) {
        int n = epoll_wait(poll, ready, 4096, -1);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.ptr) receive(ready[i].data.ptr);
            else done = 1;
        }
        usleep(20000 - 20000 * done); /* a tick of 20 ms, as the service has: many packets per wake-up */
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"cpu_s\": %.6f, \"received\": %lu, \"frames\": %lu}\n",
        used.ru_utime.tv_sec + used.ru_utime.tv_usec / 1e6 + used.ru_stime.tv_sec + used.ru_stime.tv_usec / 1e6, received, frames);
    return 0;
}
