/* The load generator: N WebSocket clients, the backend's HTTP server and its connections that push, in one thread.
 *
 * It never sleeps while it measures (epoll with a time-out of 0): a process that sleeps has to be woken, and the
 * system call that wakes it is paid for by whoever sends, which is the process that is measured.
 *
 * Started with its settings as KEY=VALUE arguments; prints one line of JSON for each command line that it reads:
 *
 *   open NUMBER             opens clients until there are NUMBER
 *   run KEY=VALUE ...       one run; see struct run below
 *   quit
 *
 * Each payload begins with 16 hexadecimal digits (client 5, sequence number 7, slot 4); known text follows, all of
 * which is compared. A slot is one message under way, from its start to its last acknowledgement.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define HEAD 16                /* digits that a payload begins with: the smallest payload */
#define MOST_CLIENTS 65536
#define MOST_SLOTS 65536
#define MOST_EVENTS 256
#define READ_SIZE (256 * 1024)
#define AT_ONCE 64             /* handshakes under way while clients are opened */
#define BUCKETS (64 << 7)

static void die(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static void *grow(void *old, size_t size) {
    void *new = realloc(old, size);
    if (!new) die("no memory");
    return new;
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/* ---------------------------------------------------------------- settings, and what is under way */

static struct {
    int core;               /* that this process is pinned to; -1: none */
    int backend_port;       /* that it listens on as the backend */
    struct sockaddr_in client, control; /* where clients connect, where the backend pushes */
    const char *handshake;  /* with {n}, the client's number in five digits */
    const char *push;       /* the request that pushes, with {n}, {id} (path of the ws_uri), {length}, {body} */
    bool grip;              /* the backend speaks WebSocket-over-HTTP instead of POST, PUT, DELETE */
    uint64_t patience;      /* nanoseconds without any progress after which a run is given up */
} settings = {.core = -1, .patience = 10000000000u};

enum which { PUSH, MESSAGE, ECHO, CONNECT };
static const char *names[] = {"push", "message", "echo", "connect"};

static struct run {
    enum which which;
    double seconds;         /* starts messages for this long, */
    uint64_t count;         /* or this many (0: any number) */
    double rate;            /* open loop: messages a second, at random times; 0: closed loop */
    int window;             /* most messages under way */
    int connections;        /* that push */
    int active;             /* only the first so many clients take part */
    size_t size;            /* of a message */
    uint64_t delay;         /* nanoseconds that the backend takes to answer */

    bool on, starting;
    uint64_t begin, due, end, progress, idle_time, turns, idle_turns;
    uint64_t started, finished, lost, reordered, unexpected, corrupted, refused, broken;
    uint32_t histogram[BUCKETS];
} run;

struct buffer {
    char *data;
    size_t length, capacity;
};

enum kind { COMMANDS, LISTENER, CLIENT, SERVED, PUSHER };

struct conn {
    enum kind kind;
    int fd, number, slot;
    unsigned generation;
    bool dead, opened, told_close;
    struct buffer in, out, message;
    struct conn *next;      /* in the list of the dead, of the free, or of the idle pushers */
};

static struct client {
    struct conn *conn;
    char id[96];
    int id_length, chain;   /* chain: next in the same bucket of the ids, or -1 */
    uint32_t sent, told, pushed;
    int under_way;
    bool posted, gone;      /* what the backend was told */
} *clients;

enum { FRAME = 1, ANSWER = 2, TOLD = 4 };

static struct slot {
    uint64_t begun, pushed, answered;
    uint32_t sequence;
    int client, waits;      /* waits: for which of the above; 0: free */
    bool overtaken;         /* one that was pushed after this one was answered has come first */
} slots[MOST_SLOTS];

static int free_slots[MOST_SLOTS], free_count, under_way;
static int opened, opening, wanted;          /* clients */
static int next_client, lost_clients;
static struct conn *idle_pushers, *dead_conns, *free_conns;
static int pusher_count;
static int waiting[MOST_SLOTS], waiting_first, waiting_count; /* slots of echoes that wait for a pusher */
static int epoll;
static char input[READ_SIZE];
static char *filler, *masked_filler;
static size_t filler_size;
static const unsigned char KEY[4] = {0x5a, 0xc3, 0x17, 0x88};

static void record(uint64_t nanoseconds) {
    unsigned index = (unsigned)nanoseconds;
    if (nanoseconds >= 128) {
        unsigned exponent = 63u - (unsigned)__builtin_clzll(nanoseconds);
        index = ((exponent - 6) << 7) + (unsigned)((nanoseconds >> (exponent - 7)) & 127);
    }
    run.histogram[index]++;
}

static uint64_t bucket_value(unsigned index) {  /* the middle of a bucket, in nanoseconds */
    if (index < 128) return index;
    unsigned exponent = (index >> 7) + 6;
    return ((uint64_t)(128 + (index & 127)) << (exponent - 7)) + ((uint64_t)1 << (exponent - 7)) / 2;
}

/* ---------------------------------------------------------------- connections */

static void reserve(struct buffer *buffer, size_t size) {
    if (buffer->capacity < size) {
        buffer->capacity = size < 4096 ? 4096 : size;
        buffer->data = grow(buffer->data, buffer->capacity);
    }
}

static void append(struct buffer *buffer, const void *data, size_t length) {
    if (buffer->length + length > buffer->capacity) {
        reserve(buffer, 2 * (buffer->length + length));
    }
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

static void clear(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

static struct conn *watch(enum kind kind, int fd) {
    struct conn *conn = free_conns;
    if (conn) free_conns = conn->next;
    else conn = calloc(1, sizeof *conn);
    if (!conn) die("no memory");
    unsigned generation = conn->generation + 1;
    *conn = (struct conn){.kind = kind, .fd = fd, .number = -1, .slot = -1, .generation = generation};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (kind >= CLIENT) {
        int one = 1;
        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)) die("TCP_NODELAY");
    }
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    return conn;
}

/* Events of the same turn may still name it: it is freed at the end of the turn. */
static void drop(struct conn *conn) {
    if (conn->dead) return;
    conn->dead = true;
    close(conn->fd);
    conn->next = dead_conns;
    dead_conns = conn;
}

static void bury(void) {
    while (dead_conns) {
        struct conn *conn = dead_conns;
        dead_conns = conn->next;
        clear(&conn->in);
        clear(&conn->out);
        clear(&conn->message);
        conn->next = free_conns;
        free_conns = conn;
    }
}

static struct conn *dial(enum kind kind, const struct sockaddr_in *where, int number) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    /* Source addresses in turn, as one address has ports for 28,000 connections only. */
    static unsigned turns;
    int one = 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002u + turns++ % 250)};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    if (connect(fd, (const struct sockaddr *)where, sizeof *where) && errno != EINPROGRESS) die("connect");
    struct conn *conn = watch(kind, fd);
    conn->number = number;
    return conn;
}

static void transmit(struct conn *conn, struct iovec *pieces, int count) {
    ssize_t done = 0;
    if (conn->dead) return;
    if (!conn->out.length) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
        done = count == 1 ? send(conn->fd, pieces->iov_base, pieces->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL)
                          : sendmsg(conn->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done < 0) {
            if (errno != EAGAIN) return;  /* the reading side learns of it */
            done = 0;
        }
    }
    for (int i = 0; i < count; i++) {
        size_t length = pieces[i].iov_len, skipped = (size_t)done < length ? (size_t)done : length;
        done -= (ssize_t)skipped;
        if (skipped < length) append(&conn->out, (char *)pieces[i].iov_base + skipped, length - skipped);
    }
}

static void transmit_bytes(struct conn *conn, const void *data, size_t length) {
    struct iovec piece = {(void *)data, length};
    transmit(conn, &piece, 1);
}

static void flush(struct conn *conn) {
    if (!conn->out.length) return;
    ssize_t done = send(conn->fd, conn->out.data, conn->out.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done <= 0) return;
    conn->out.length -= (size_t)done;
    memmove(conn->out.data, conn->out.data + done, conn->out.length);
}

/* ---------------------------------------------------------------- payloads */

static void put_hex(char *to, uint32_t value, int digits) {
    while (digits--) {
        to[digits] = "0123456789abcdef"[value & 15];
        value >>= 4;
    }
}

static uint32_t get_hex(const char *from, int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; i++) {
        char digit = from[i];
        value = value << 4 | (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    return value;
}

static void put_head(char *to, int slot) {
    put_hex(to, (uint32_t)slots[slot].client, 5);
    put_hex(to + 5, slots[slot].sequence & 0xfffffff, 7);
    put_hex(to + 12, (uint32_t)slot, 4);
}

static void make_filler(size_t size) {
    if (size <= filler_size) return;
    filler = grow(filler, size);
    masked_filler = grow(masked_filler, size);
    uint32_t state = 2463534242u;
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        filler[i] = (char)('a' + state % 26);
        masked_filler[i] = (char)((unsigned char)filler[i] ^ KEY[i & 3]);
    }
    filler_size = size;
}

/* Return the slot of a payload that was sent and waits for `leg`, or -1. */
static int take_payload(const char *data, size_t length, int leg) {
    if (length != run.size || memcmp(data + HEAD, filler + HEAD, length - HEAD)) {
        run.corrupted++;
        return -1;
    }
    uint32_t slot = get_hex(data + 12, 4);
    struct slot *taken = &slots[slot < MOST_SLOTS ? slot : 0];
    if (!run.on || slot >= MOST_SLOTS || !(taken->waits & leg) || (uint32_t)taken->client != get_hex(data, 5) ||
        (taken->sequence & 0xfffffff) != get_hex(data + 5, 7)) {
        run.unexpected++;
        return -1;
    }
    return (int)slot;
}

static void done_with(int slot, int leg) {
    run.progress = now();
    slots[slot].waits &= ~leg;
    if (slots[slot].waits) return;
    clients[slots[slot].client].under_way--;
    free_slots[free_count++] = slot;
    under_way--;
    run.finished++;
}

/* ---------------------------------------------------------------- the backend pushes */

static struct piece {
    char kind;              /* 't' text, 'n' number, 'i' id, 'b' body */
    char text[1024];
    size_t length;
} pieces[16];
static int piece_count;

/* Cut the template of a push into pieces, for messages of `size` bytes. */
static void compile_push(size_t size) {
    const char *at = settings.push, *body = strstr(at, "\r\n\r\n");
    size_t length = 0;
    if (!body) die("a push without a head");
    body += 4;
    for (const char *p = body; *p;) {
        if (!strncmp(p, "{n}", 3)) length += 5, p += 3;
        else if (!strncmp(p, "{body}", 6)) length += size, p += 6;
        else length++, p++;
    }
    piece_count = 0;
    while (*at) {
        struct piece *piece = &pieces[piece_count++];
        size_t name = 3;
        if (piece_count == 16) die("too many pieces in a push");
        if (!strncmp(at, "{n}", 3)) piece->kind = 'n';
        else if (!strncmp(at, "{id}", 4)) piece->kind = 'i', name = 4;
        else if (!strncmp(at, "{body}", 6)) piece->kind = 'b', name = 6;
        else if (!strncmp(at, "{length}", 8)) {
            piece->kind = 't', name = 8;
            piece->length = (size_t)sprintf(piece->text, "%zu", length);
        } else {
            piece->kind = 't', piece->length = name = 1 + strcspn(at + 1, "{");
            if (name > sizeof piece->text) die("a push is too long");
            memcpy(piece->text, at, name);
        }
        at += name;
    }
}

static void send_push(struct conn *conn, int slot) {
    static char head[8192];
    struct client *client = &clients[slots[slot].client];
    struct iovec parts[3] = {{head, 0}};
    char *to = head;
    int count = 1;
    for (int i = 0; i < piece_count; i++) {
        struct piece *piece = &pieces[i];
        if (piece->kind == 't') memcpy(to, piece->text, piece->length), to += piece->length;
        if (piece->kind == 'i') memcpy(to, client->id, (size_t)client->id_length), to += client->id_length;
        if (piece->kind == 'n') {
            for (int digit = 4, rest = slots[slot].client; digit >= 0; digit--, rest /= 10) to[digit] = (char)('0' + rest % 10);
            to += 5;
        }
        if (piece->kind == 'b') {
            put_head(to, slot);
            to += HEAD;
            if (run.size <= 4096) {
                memcpy(to, filler + HEAD, run.size - HEAD);
                to += run.size - HEAD;
            } else {
                parts[0].iov_len = (size_t)(to - head);
                parts[1] = (struct iovec){filler + HEAD, run.size - HEAD};
                parts[2].iov_base = to;
                count = 3;
            }
        }
    }
    parts[count - 1].iov_len = (size_t)(to - (char *)parts[count - 1].iov_base);
    conn->slot = slot;
    transmit(conn, parts, count);
}

static void push(int slot) {
    struct conn *conn = idle_pushers;
    struct client *client = &clients[slots[slot].client];
    idle_pushers = conn->next;
    slots[slot].sequence = client->pushed++;
    slots[slot].waits = FRAME | ANSWER;
    slots[slot].overtaken = false;
    slots[slot].pushed = now();
    send_push(conn, slot);
}

static void idle_pusher(struct conn *conn) {
    conn->slot = -1;
    conn->next = idle_pushers;
    idle_pushers = conn;
    if (waiting_count) {
        int slot = waiting[waiting_first];
        waiting_first = (waiting_first + 1) % MOST_SLOTS;
        waiting_count--;
        push(slot);
    }
}

/* A push that was answered before this one began has to be there before this one. */
static void check_order(int slot) {
    struct slot *this = &slots[slot];
    if (this->overtaken) run.reordered++;
    if (clients[this->client].under_way < 2) return;
    for (int i = 0; i < run.window; i++) {
        struct slot *other = &slots[i];
        if (i != slot && other->waits == FRAME && other->client == this->client && other->answered < this->pushed) {
            other->overtaken = true;
        }
    }
}

static void pushed(struct conn *conn, bool fine) {
    int slot = conn->slot;
    if (slot < 0) {
        run.unexpected++;
        return;
    }
    idle_pusher(conn);
    if (!fine) {
        run.refused++;
        done_with(slot, FRAME | ANSWER);
        return;
    }
    slots[slot].answered = now();
    done_with(slot, ANSWER);
}

/* ---------------------------------------------------------------- the clients */

static void send_frame(struct conn *conn, int opcode, const void *data, size_t length) {
    unsigned char frame[131] = {(unsigned char)(0x80 | opcode), (unsigned char)(0x80 | length)};
    memcpy(frame + 2, KEY, 4);
    for (size_t i = 0; i < length; i++) frame[6 + i] = ((const unsigned char *)data)[i] ^ KEY[i & 3];
    transmit_bytes(conn, frame, 6 + length);
}

static void send_message(int slot) {
    static unsigned char data[14 + 4096];
    struct client *client = &clients[slots[slot].client];
    size_t size = run.size, head = size < 126 ? 2 : size < 65536 ? 4 : 10;
    data[0] = 0x81;
    data[1] = 0x80 | (unsigned char)(head == 2 ? size : head == 4 ? 126 : 127);
    for (size_t i = head - 1, rest = size; i > 1; i--, rest >>= 8) data[i] = (unsigned char)rest;
    memcpy(data + head, KEY, 4);
    head += 4;
    slots[slot].sequence = client->sent++;
    slots[slot].waits = TOLD;
    put_head((char *)data + head, slot);
    for (size_t i = 0; i < HEAD; i++) data[head + i] ^= KEY[i & 3];
    head += HEAD;
    if (size <= 4096) {
        memcpy(data + head, masked_filler + HEAD, size - HEAD);
        transmit_bytes(client->conn, data, head + size - HEAD);
        return;
    }
    struct iovec parts[2] = {{data, head}, {masked_filler + HEAD, size - HEAD}};
    transmit(client->conn, parts, 2);
}

static void connect_client(int number) {
    char request[4096], *at = request;
    const char *template = settings.handshake, *place;
    struct client *client = &clients[number];
    client->posted = client->gone = false;
    client->sent = client->told = client->pushed = 0;
    client->conn = dial(CLIENT, &settings.client, number);
    while ((place = strstr(template, "{n}"))) {
        at = mempcpy(at, template, (size_t)(place - template));
        at += sprintf(at, "%05d", number);
        template = place + 3;
    }
    at = stpcpy(at, template);
    transmit_bytes(client->conn, request, (size_t)(at - request));
}

static void open_more(void) {
    while (opening < AT_ONCE && opened + opening < wanted) connect_client(opened + opening++);
}

/* One came and went when the backend was told of both, and the client's connection is over. */
static void came_and_went(int number) {
    struct client *client = &clients[number];
    if (run.on && run.which == CONNECT && client->gone && !client->conn && number >= opened) {
        done_with(number - opened, TOLD);
    }
}

static void lost_client(struct conn *conn) {
    struct client *client = &clients[conn->number];
    if (client->conn != conn) return;
    client->conn = NULL;
    drop(conn);
    if (run.on && run.which == CONNECT && conn->number >= opened && conn->told_close) came_and_went(conn->number);
    else lost_clients++;
}

static void message_arrived(struct conn *conn, const char *data, size_t length) {
    int slot = take_payload(data, length, FRAME);
    if (slot < 0) return;
    if (slots[slot].client != conn->number) {
        run.unexpected++;
        return;
    }
    record(now() - slots[slot].begun);
    check_order(slot);
    done_with(slot, FRAME);
}

/* Each of the following takes one unit from what arrived and returns its length, or 0 with `need`: not all there. */

static size_t take_frame(struct conn *conn, const char *data, size_t length, size_t *need) {
    const unsigned char *bytes = (const unsigned char *)data;
    size_t head = 2, size;
    if (length < 2) return 0;
    size = bytes[1];
    if (size == 126) head = 4;
    if (size == 127) head = 10;
    if (length < head) return 0;
    if (head > 2) {
        size = 0;
        for (size_t i = 2; i < head; i++) size = size << 8 | bytes[i];
    }
    *need = head + size;
    if (length < *need) return 0;
    int opcode = bytes[0] & 15;
    bool last = bytes[0] & 0x80;
    if (bytes[0] & 0x70 || bytes[1] & 0x80) run.corrupted++;
    else if (opcode == 9) send_frame(conn, 10, data + head, size);
    else if (opcode == 8) {
        lost_client(conn);
    } else if (opcode <= 2 && last && !conn->message.length) message_arrived(conn, data + head, size);
    else if (opcode <= 2) {
        append(&conn->message, data + head, size);
        if (last) {
            message_arrived(conn, conn->message.data, conn->message.length);
            conn->message.length = 0;
        }
    }
    return *need;
}

static size_t take_handshake(struct conn *conn, const char *data, size_t length) {
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) return 0;
    if (strncmp(data, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "load: a handshake was answered %.*s\n", (int)strcspn(data, "\r"), data);
        run.refused++;
        exit(1);
    }
    conn->opened = true;
    if (!run.on) {
        opening--;
        opened++;
        open_more();
    } else if (run.on && run.which == CONNECT) {
        record(now() - slots[conn->number - opened].begun);
        send_frame(conn, 8, "\x03\xe8", 2);
        conn->told_close = true;
    }
    return (size_t)(end + 4 - data);
}

/* ---------------------------------------------------------------- HTTP */

struct head {
    size_t length, body;    /* bytes of the head, of the body */
    const char *uri;        /* value of Ws-Uri, or NULL */
    size_t uri_length;
    bool closes;            /* Connection: close */
};

static bool read_head(const char *data, size_t length, struct head *head) {
    const char *end = memmem(data, length, "\r\n\r\n", 4), *line, *next;
    if (!end) return false;
    *head = (struct head){.length = (size_t)(end + 4 - data)};
    for (line = memchr(data, '\n', length); line && line < end; line = next) {
        line++;
        next = memchr(line, '\n', (size_t)(end + 2 - line));
        if (!next) break;
        if ((*line | 32) == 'c' && !strncasecmp(line, "Content-Length:", 15)) head->body = strtoul(line + 15, NULL, 10);
        else if ((*line | 32) == 'c' && !strncasecmp(line, "Connection: close", 17)) head->closes = true;
        else if ((*line | 32) == 'w' && !strncasecmp(line, "Ws-Uri: ", 8)) {
            head->uri = line + 8;
            head->uri_length = (size_t)(next - 1 - head->uri);
        } else if ((*line | 32) == 't' && !strncasecmp(line, "Transfer-Encoding:", 18)) {
            errno = 0;
            die("a chunked body, which is not understood");
        }
    }
    return true;
}

static size_t take_answer(struct conn *conn, const char *data, size_t length, size_t *need) {
    struct head head;
    if (!read_head(data, length, &head)) return 0;
    *need = head.length + head.body;
    if (length < *need) return 0;
    if (head.closes) {  /* the next push needs a new one */
        struct conn *next = dial(PUSHER, &settings.control, -1);
        next->slot = conn->slot;
        drop(conn);
        conn = next;
    }
    pushed(conn, data[9] == '2');
    return *need;
}

/* ---------------------------------------------------------------- the backend is told */

#define STAMP "Date: Sat, 31 Jan 2026 12:00:00 GMT\r\nServer: load\r\n"
static const char WELCOME[] = "HTTP/1.1 200 OK\r\n" STAMP "Content-Type: application/json\r\nContent-Length: 13\r\n\r\n"
                              "{\"code\":\"OK\"}";
static const char TAKEN[] = "HTTP/1.1 204 No Content\r\n" STAMP "\r\n";
static const char EVENTS[] = "HTTP/1.1 200 OK\r\n" STAMP "Content-Type: application/websocket-events\r\n";

#define ID_BUCKETS 65536
static int id_buckets[ID_BUCKETS];

static int *id_bucket(const char *id, int length) {
    uint32_t hash = 2166136261u;
    for (int i = 0; i < length; i++) hash = (hash ^ (unsigned char)id[i]) * 16777619u;
    return &id_buckets[(hash ^ hash >> 16) % ID_BUCKETS];
}

static int client_of_id(const char *id, int length) {
    int number = *id_bucket(id, length);
    while (number >= 0 && (clients[number].id_length != length || memcmp(clients[number].id, id, (size_t)length))) {
        number = clients[number].chain;
    }
    return number;
}

static void forget_id(int number) {
    struct client *client = &clients[number];
    if (!client->id_length) return;
    int *place = id_bucket(client->id, client->id_length);
    while (*place != number) place = &clients[*place].chain;
    *place = client->chain;
    client->id_length = 0;
}

static void remember_id(int number, const char *id, int length) {
    struct client *client = &clients[number];
    forget_id(number);
    if (length <= 0 || length > (int)sizeof client->id) return;
    memcpy(client->id, id, (size_t)length);
    client->id_length = length;
    int *place = id_bucket(id, length);
    client->chain = *place;
    *place = number;
}

/* The client's number is in the path that it asked for, which stands somewhere in what the backend gets. */
static int number_in(const char *data, size_t length) {
    const char *path = memmem(data, length, "/c/", 3);
    if (!path || path + 8 > data + length) return -1;
    int number = 0;
    for (int i = 3; i < 8; i++) number = 10 * number + path[i] - '0';
    return number >= 0 && number < MOST_CLIENTS ? number : -1;
}

static void told_of_message(int number, const char *data, size_t length, int *slot) {
    int taken = take_payload(data, length, TOLD);
    if (taken < 0) return;
    struct client *client = &clients[slots[taken].client];
    if (number >= 0 && number != slots[taken].client) {
        run.unexpected++;
        return;
    }
    if (slots[taken].sequence < client->told) run.reordered++;
    else client->told = slots[taken].sequence + 1;
    if (run.which == MESSAGE) record(now() - slots[taken].begun);
    *slot = taken;
}

static void told_of_end(int number) {
    if (number < 0) {
        run.unexpected++;
        return;
    }
    forget_id(number);
    clients[number].gone = true;
    came_and_went(number);
}

static void answered(int slot) {
    if (slot < 0) return;
    if (run.which == MESSAGE) done_with(slot, TOLD);
    else if (idle_pushers) push(slot);
    else waiting[(waiting_first + waiting_count++) % MOST_SLOTS] = slot;
}

/* As every answer takes equally long, those that are due later stand behind: a ring. */
static struct {
    uint64_t due;
    struct conn *conn;
    unsigned generation;
    int slot;
    const char *text;
    size_t length;
} later[MOST_SLOTS];
static int later_first, later_count;

static void answer(struct conn *conn, const char *text, size_t length, int slot) {
    if (run.delay && later_count < MOST_SLOTS) {
        int i = (later_first + later_count++) % MOST_SLOTS;
        later[i].due = now() + run.delay;
        later[i].conn = conn, later[i].generation = conn->generation, later[i].slot = slot;
        later[i].text = text, later[i].length = length;
        return;
    }
    transmit_bytes(conn, text, length);
    answered(slot);
}

static void answer_late(uint64_t time) {
    while (later_count && later[later_first].due <= time) {
        int i = later_first;
        later_first = (later_first + 1) % MOST_SLOTS;
        later_count--;
        if (later[i].generation == later[i].conn->generation) transmit_bytes(later[i].conn, later[i].text, later[i].length);
        answered(later[i].slot);
    }
}

/* WebSocket-over-HTTP: a body of events, answered by events; OPEN also subscribes to the channel of that number. */
static void take_events(struct conn *conn, const char *data, const struct head *head) {
    const char *at = data + head->length, *end = at + head->body;
    char text[1024], events[512], *to = events;
    const char *extra = "";
    int number = number_in(data, head->length), told[16], count = 0;
    if (number < 0) at = end, run.unexpected++;
    while (at < end) {
        const char *line = memchr(at, '\n', (size_t)(end - at)), *size = memchr(at, ' ', (size_t)(end - at));
        size_t length = 0;
        if (!line) break;
        bool content = size && size < line;
        if (content) length = strtoul(size + 1, NULL, 16);
        if (!strncmp(at, "OPEN", 4)) {
            extra = "Sec-WebSocket-Extensions: grip; message-prefix=\"\"\r\n";
            char subscribe[64];
            int subscribing = sprintf(subscribe, "c:{\"type\":\"subscribe\",\"channel\":\"%05d\"}", number);
            to += sprintf(to, "OPEN\r\nTEXT %x\r\n%s\r\n", (unsigned)subscribing, subscribe);
            clients[number].posted = true;
        } else if (!strncmp(at, "TEXT", 4) && count < 16) {
            told[count] = -1;
            told_of_message(number, line + 1, length, &told[count]);
            count++;
        } else if (!strncmp(at, "CLOSE", 5)) {
            to += sprintf(to, "CLOSE 2\r\n\x03\xe8\r\n");
            told_of_end(number);
        } else if (!strncmp(at, "DISCONNECT", 10)) told_of_end(number);
        else run.unexpected++;
        at = line + 1 + (content ? length + 2 : 0);
    }
    int all = sprintf(text, "%s%sContent-Length: %d\r\n\r\n", EVENTS, extra, (int)(to - events));
    memcpy(text + all, events, (size_t)(to - events));
    transmit_bytes(conn, text, (size_t)(all + (to - events)));
    for (int i = 0; i < count; i++) answered(told[i]);
}

static size_t take_request(struct conn *conn, const char *data, size_t length, size_t *need) {
    struct head head;
    if (!read_head(data, length, &head)) return 0;
    *need = head.length + head.body;
    if (length < *need) return 0;
    if (settings.grip) {
        take_events(conn, data, &head);
        return *need;
    }
    const char *id = head.uri ? memchr(head.uri, '/', head.uri_length) : NULL;
    int id_length = id ? (int)(head.uri + head.uri_length - id) : 0, slot = -1;
    if (data[0] == 'P' && data[1] == 'O') {
        int number = number_in(data, *need);
        if (number < 0) run.unexpected++;
        else {
            clients[number].posted = true;
            remember_id(number, id, id_length);
        }
        answer(conn, WELCOME, sizeof WELCOME - 1, -1);
        return *need;
    }
    int number = id ? client_of_id(id, id_length) : number_in(data, head.length);
    if (data[0] == 'P') told_of_message(number, data + head.length, head.body, &slot);
    answer(conn, TAKEN, sizeof TAKEN - 1, slot);
    if (data[0] == 'D') told_of_end(number);
    return *need;
}

/* ---------------------------------------------------------------- reading */

static size_t take(struct conn *conn, const char *data, size_t length, size_t *need) {
    *need = 0;
    if (conn->kind == SERVED) return take_request(conn, data, length, need);
    if (conn->kind == PUSHER) return take_answer(conn, data, length, need);
    return conn->opened ? take_frame(conn, data, length, need) : take_handshake(conn, data, length);
}

static void lost(struct conn *conn) {
    if (conn->kind == CLIENT) lost_client(conn);
    else if (conn->kind == PUSHER) {
        pusher_count--;
        if (conn->slot >= 0) run.broken++;
        for (struct conn **place = &idle_pushers; *place; place = &(*place)->next) {
            if (*place == conn) {
                *place = conn->next;
                break;
            }
        }
        drop(conn);
    } else drop(conn);
}

/* Take what arrived. Edge-triggered: until there is no more, which a read that is not filled tells too. */
static void receive(struct conn *conn, bool to_the_end) {
    while (!conn->dead) {
        struct buffer *in = &conn->in;
        char *to = input;
        size_t room = sizeof input, used = 0, need = 0, step;
        if (in->length) {
            if (in->capacity - in->length < 4096) reserve(in, 2 * in->capacity);
            to = in->data + in->length;
            room = in->capacity - in->length;
        }
        ssize_t got = recv(conn->fd, to, room, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            lost(conn);
            return;
        }
        if (got < 0) return;
        const char *data = in->length ? in->data : input;
        size_t length = in->length + (size_t)got;
        while (!conn->dead && used < length && (step = take(conn, data + used, length - used, &need))) used += step;
        if (conn->dead) return;
        if (in->length) {
            in->length = length - used;
            memmove(in->data, in->data + used, in->length);
            if (!in->length) clear(in);
        } else if (used < length) append(in, input + used, length - used);
        if (in->length && need > in->capacity) reserve(in, need + 4096);
        if ((size_t)got < room && !to_the_end) return;
    }
}

static void welcome(struct conn *listener) {
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) return;
        receive(watch(SERVED, fd), false);
    }
}

/* ---------------------------------------------------------------- runs */

static void start(uint64_t begun) {
    int slot = free_slots[--free_count];
    struct slot *this = &slots[slot];
    this->begun = begun;
    under_way++;
    run.started++;
    if (run.which == CONNECT) {
        this->client = opened + slot;
        clients[this->client].under_way++;
        this->waits = TOLD;
        connect_client(this->client);
        return;
    }
    this->client = next_client;
    next_client = (next_client + 1) % run.active;
    clients[this->client].under_way++;
    if (run.which == PUSH) push(slot);
    else send_message(slot);
}

static double uniform(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return ((double)(state >> 11) + 0.5) / 9007199254740992.0;
}

/* In the open loop a message's time begins when it was due, however long it waited for a slot or a connection. */
static void start_more(uint64_t time) {
    while (run.starting) {
        if (run.count ? run.started >= run.count : (run.rate ? run.due : time) >= run.end) {
            run.starting = false;
            return;
        }
        if (!free_count || (run.which == PUSH && !idle_pushers)) return;
        if (!run.rate) start(now());
        else {
            if (run.due > time) return;
            start(run.due);
            run.due += (uint64_t)(-log(uniform()) / run.rate * 1e9);
        }
    }
}

static void turn(int timeout) {
    struct epoll_event events[MOST_EVENTS];
    int count = epoll_wait(epoll, events, MOST_EVENTS, timeout);
    for (int i = 0; i < count; i++) {
        struct conn *conn = events[i].data.ptr;
        if (conn->dead || conn->kind == COMMANDS) continue;
        if (conn->kind == LISTENER) {
            welcome(conn);
            continue;
        }
        if (events[i].events & EPOLLOUT) flush(conn);
        if (events[i].events & ~(unsigned)EPOLLOUT) receive(conn, events[i].events & ~(unsigned)(EPOLLIN | EPOLLOUT));
    }
    bury();
    run.turns++;
    run.idle_turns += count <= 0;
}

static void open_pushers(int number) {
    while (pusher_count > number && idle_pushers) {
        struct conn *conn = idle_pushers;
        idle_pushers = conn->next;
        pusher_count--;
        drop(conn);
    }
    for (; pusher_count < number; pusher_count++) idle_pusher(dial(PUSHER, &settings.control, -1));
}

static void report(uint64_t elapsed) {
    const char *comma = "";
    printf("{\"case\":\"%s\",\"clients\":%d,\"seconds\":%.6f,\"messages\":%" PRIu64 ",\"busy\":%.4f,\"turns\":%" PRIu64
           ",\"turns_with_events\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"reordered\":%" PRIu64 ",\"unexpected\":%" PRIu64
           ",\"corrupted\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"broken\":%" PRIu64 ",\"behind\":%.6f,\"latency\":[",
           names[run.which], opened, (double)elapsed / 1e9, run.finished, 1 - (double)run.idle_time / (double)elapsed, run.turns,
           run.turns - run.idle_turns, run.lost, run.reordered, run.unexpected, run.corrupted, run.refused, run.broken,
           run.rate && run.due < run.end && !run.count ? (double)(run.end - run.due) / 1e9 : 0.0);
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (!run.histogram[i]) continue;
        printf("%s[%" PRIu64 ",%u]", comma, bucket_value(i), run.histogram[i]);
        comma = ",";
    }
    printf("]}\n");
    fflush(stdout);
}

static void measure(void) {
    make_filler(run.size);
    compile_push(run.size);
    free_count = under_way = waiting_count = later_count = next_client = 0;
    for (int i = run.window - 1; i >= 0; i--) free_slots[free_count++] = i;
    memset(slots, 0, sizeof slots);
    for (int i = 0; i < opened; i++) clients[i].under_way = 0;
    if (run.which == PUSH || run.which == ECHO) open_pushers(run.connections);
    for (uint64_t calm = now() + 2000000; now() < calm;) turn(0);
    run.on = run.starting = true;
    run.turns = run.idle_turns = run.idle_time = 0;
    run.begin = run.progress = run.due = now();
    run.end = run.begin + (uint64_t)(run.seconds * 1e9);
    uint64_t time = run.begin;
    while (run.starting || under_way) {
        uint64_t idle = run.idle_turns;
        answer_late(time);
        start_more(time);
        turn(0);
        uint64_t after = now();
        if (run.idle_turns > idle) run.idle_time += after - time;
        time = after;
        if (time > run.progress && time - run.progress > settings.patience + run.delay && (under_way || !run.rate)) break;
    }
    uint64_t last = under_way ? time : run.progress;
    for (uint64_t calm = now() + 2000000; now() < calm;) turn(0);  /* what comes twice, comes now */
    run.lost = (uint64_t)under_way;
    run.broken += (uint64_t)lost_clients;
    run.on = run.starting = false;
    report(last - run.begin);
}

/* ---------------------------------------------------------------- commands */

static bool is(const char *pair, const char *name, const char **value) {
    size_t length = strlen(name);
    if (strncmp(pair, name, length) || pair[length] != '=') return false;
    *value = pair + length + 1;
    return true;
}

static void prepare(char *words) {
    const char *value;
    run = (struct run){.seconds = 1, .window = 32, .connections = 32, .size = 128, .active = opened};
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        if (is(word, "case", &value)) {
            for (int i = 0; i < 4; i++) if (!strcmp(value, names[i])) run.which = (enum which)i;
        } else if (is(word, "seconds", &value)) run.seconds = atof(value);
        else if (is(word, "count", &value)) run.count = strtoull(value, NULL, 10);
        else if (is(word, "rate", &value)) run.rate = atof(value);
        else if (is(word, "window", &value)) run.window = atoi(value);
        else if (is(word, "connections", &value)) run.connections = atoi(value);
        else if (is(word, "active", &value)) run.active = atoi(value);
        else if (is(word, "size", &value)) run.size = strtoul(value, NULL, 10);
        else if (is(word, "delay", &value)) run.delay = (uint64_t)(atof(value) * 1e9);
        else die(word);
    }
    if (run.size < HEAD) die("a message needs 16 bytes");
    if (run.active > opened) run.active = opened;
    if (run.window > MOST_SLOTS) run.window = MOST_SLOTS;
    if (run.which != CONNECT && (!run.active || lost_clients)) die("no client is open, or one is lost");
    if (run.which == CONNECT && opened + run.window > MOST_CLIENTS) die("too many clients");
}

static void open_clients(int number) {
    uint64_t begin = now(), progress = begin;
    int before = -1, told = 0;
    if (number > MOST_CLIENTS) die("too many clients");
    wanted = number;
    for (open_more(); opened < wanted || told < wanted;) {
        turn(0);
        if (opened > before) before = opened, progress = now();
        while (told < opened && clients[told].posted) told++;
        if (now() - progress > settings.patience || lost_clients) die("clients could not connect, or the backend was not told");
    }
    printf("{\"open\":%d,\"seconds\":%.6f}\n", opened, (double)(now() - begin) / 1e9);
    fflush(stdout);
}

static void command(char *line) {
    errno = 0;
    if (!strncmp(line, "open ", 5)) open_clients(atoi(line + 5));
    else if (!strncmp(line, "run ", 4)) {
        prepare(line + 4);
        measure();
    } else if (!strncmp(line, "quit", 4)) exit(0);
    else die(line);
}

static void listen_to_commands(void) {
    static char line[4096];
    static size_t length;
    watch(COMMANDS, 0);
    for (;;) {
        turn(-1);
        struct pollfd readable = {.fd = 0, .events = POLLIN};
        if (poll(&readable, 1, 0) <= 0) continue;
        ssize_t got = read(0, line + length, sizeof line - 1 - length);
        if (got <= 0) exit(0);
        length += (size_t)got;
        line[length] = 0;
        char *end = strchr(line, '\n');
        if (!end) continue;
        *end = length = 0;
        command(line);
    }
}

static struct sockaddr_in address(const char *text) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strchr(text, ':');
    if (!colon || colon - text > 63) die(text);
    snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    to.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die(text);
    return to;
}

static void set(int count, char **pairs) {
    for (int i = 0; i < count; i++) {
        const char *value;
        if (is(pairs[i], "core", &value)) settings.core = atoi(value);
        else if (is(pairs[i], "backend", &value)) settings.backend_port = atoi(value);
        else if (is(pairs[i], "client", &value)) settings.client = address(value);
        else if (is(pairs[i], "control", &value)) settings.control = address(value);
        else if (is(pairs[i], "handshake", &value)) settings.handshake = value;
        else if (is(pairs[i], "push", &value)) settings.push = value;
        else if (is(pairs[i], "grip", &value)) settings.grip = atoi(value);
        else if (is(pairs[i], "patience", &value)) settings.patience = (uint64_t)(atof(value) * 1e9);
        else die(pairs[i]);
    }
}

int main(int count, char **arguments) {
    int one = 1;
    set(count - 1, arguments + 1);
    if (settings.core >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET(settings.core, &cores);
        if (sched_setaffinity(0, sizeof cores, &cores)) die("sched_setaffinity");
    }
    clients = calloc(MOST_CLIENTS, sizeof *clients);
    if (!clients) die("no memory");
    for (int i = 0; i < ID_BUCKETS; i++) id_buckets[i] = -1;
    if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)settings.backend_port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) die("the backend's port");
    watch(LISTENER, fd);
    printf("{\"listening\":%d}\n", settings.backend_port);
    fflush(stdout);
    listen_to_commands();
}
