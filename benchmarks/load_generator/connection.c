/* Connections: nonblocking sockets, edge-triggered events, and buffers for what is incomplete either way. */
#include "load_generator.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 256
#define READ_SIZE (256 * 1024)
#define MIN_CAPACITY 4096
#define SOURCE_ADDRESSES 250

static int epoll;
static struct connection *dropped_connections, *free_connections;
static char input[READ_SIZE];

void open_epoll(void) {
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) fail_system("epoll_create1");
}

/* ------------------------------------------------------------------ buffers */

static void reserve(struct buffer *buffer, size_t size) {
    if (buffer->capacity >= size) return;
    buffer->capacity = size < MIN_CAPACITY ? MIN_CAPACITY : size;
    buffer->data = resize(buffer->data, buffer->capacity);
}

void append(struct buffer *buffer, const void *data, size_t length) {
    size_t needed = buffer->length + length;
    if (needed > buffer->capacity) reserve(buffer, 2 * needed);
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

static void clear(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

static void remove_start(struct buffer *buffer, size_t length) {
    buffer->length -= length;
    memmove(buffer->data, buffer->data + length, buffer->length);
}

/* ------------------------------------------------------------------ opening and closing */

struct connection *watch(enum kind kind, int fd) {
    struct connection *connection = free_connections;
    if (connection) free_connections = connection->next;
    else connection = calloc(1, sizeof *connection);
    if (!connection) fail("no memory");
    unsigned generation = connection->generation + 1;
    *connection = (struct connection){.kind = kind, .fd = fd, .client = -1, .slot = -1, .generation = generation};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (kind >= CLIENT) {
        int one = 1;
        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)) fail_system("TCP_NODELAY");
    }
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail_system("epoll_ctl");
    return connection;
}

struct connection *dial(enum kind kind, const struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) fail_system("socket");
    /* From several addresses in turn: one address has ports for 28,000 connections only. */
    static unsigned turn;
    int one = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(0x7f000002u + turn++ % SOURCE_ADDRESSES);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&source, sizeof source)) fail_system("bind");
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) && errno != EINPROGRESS) fail_system("connect");
    return watch(kind, fd);
}

/* Events of the same turn may still name a dropped connection, so its memory is used again only in the next one. */
void drop(struct connection *connection) {
    if (connection->dropped) return;
    connection->dropped = true;
    close(connection->fd);
    connection->next = dropped_connections;
    dropped_connections = connection;
}

static void free_dropped(void) {
    while (dropped_connections) {
        struct connection *connection = dropped_connections;
        dropped_connections = connection->next;
        clear(&connection->in);
        clear(&connection->out);
        clear(&connection->message);
        connection->next = free_connections;
        free_connections = connection;
    }
}

static void lose(struct connection *connection) {
    if (connection->kind == CLIENT) lose_client(connection);
    else if (connection->kind == PUSHER) lose_pusher(connection);
    else drop(connection);
}

/* ------------------------------------------------------------------ writing */

void transmit(struct connection *connection, struct iovec *pieces, int count) {
    ssize_t sent = 0;
    if (connection->dropped) return;
    if (!connection->out.length) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
        if (count == 1) sent = send(connection->fd, pieces->iov_base, pieces->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        else sent = sendmsg(connection->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return; /* a read will fail as well, and is where that is handled */
        if (sent < 0) sent = 0;
    }
    for (int i = 0; i < count; i++) {
        size_t length = pieces[i].iov_len;
        size_t skipped = (size_t)sent < length ? (size_t)sent : length;
        sent -= (ssize_t)skipped;
        if (skipped < length) append(&connection->out, (char *)pieces[i].iov_base + skipped, length - skipped);
    }
}

void transmit_bytes(struct connection *connection, const void *data, size_t length) {
    struct iovec piece = {(void *)data, length};
    transmit(connection, &piece, 1);
}

static void flush(struct connection *connection) {
    if (!connection->out.length) return;
    ssize_t sent = send(connection->fd, connection->out.data, connection->out.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) remove_start(&connection->out, (size_t)sent);
}

/* ------------------------------------------------------------------ reading */

static size_t take(struct connection *connection, const char *data, size_t length, size_t *need) {
    *need = 0;
    if (connection->kind == BACKEND) return take_request(connection, data, length, need);
    if (connection->kind == PUSHER) return take_response(connection, data, length, need);
    if (!connection->opened) return take_handshake(connection, data, length);
    return take_frame(connection, data, length, need);
}

/* Take all complete units from `data`; return how many bytes they were. `need`: the size of the one that is not. */
static size_t take_all(struct connection *connection, const char *data, size_t length, size_t *need) {
    size_t used = 0, step;
    while (!connection->dropped && used < length) {
        step = take(connection, data + used, length - used, need);
        if (!step) break;
        used += step;
    }
    return used;
}

/* Bytes are read behind those of an incomplete unit, or into `input` if there is none. Events are edge-triggered: this
 * reads until there is no more, which a read that does not fill its room shows as well. */
static void receive(struct connection *connection, bool to_the_end) {
    struct buffer *in = &connection->in;
    while (!connection->dropped) {
        char *to = input;
        size_t room = sizeof input, need = 0;
        if (in->length) {
            if (in->capacity - in->length < MIN_CAPACITY) reserve(in, 2 * in->capacity);
            to = in->data + in->length;
            room = in->capacity - in->length;
        }
        ssize_t got = recv(connection->fd, to, room, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            lose(connection);
            return;
        }
        size_t length = in->length + (size_t)got;
        size_t used = take_all(connection, in->length ? in->data : input, length, &need);
        if (connection->dropped) return;
        if (in->length) {
            in->length = length;
            remove_start(in, used);
            if (!in->length) clear(in);
        } else if (used < length) {
            append(in, input + used, length - used);
        }
        if (in->length && need > in->capacity) reserve(in, need + MIN_CAPACITY);
        if ((size_t)got < room && !to_the_end) return;
    }
}

static void accept_all(struct connection *listener) {
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) return;
        receive(watch(BACKEND, fd), false);
    }
}

void handle_events(int timeout) {
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = epoll_wait(epoll, events, EVENTS_AT_ONCE, timeout);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        uint32_t what = events[i].events;
        if (connection->dropped || connection->kind == COMMANDS) continue;
        if (connection->kind == LISTENER) {
            accept_all(connection);
            continue;
        }
        if (what & EPOLLOUT) flush(connection);
        if (what & ~(uint32_t)EPOLLOUT) receive(connection, what & ~(uint32_t)(EPOLLIN | EPOLLOUT));
    }
    free_dropped();
    run.turns++;
    if (count <= 0) run.idle_turns++;
}
