/* The backend's HTTP server: it is asked about clients, gets their messages, and hears when they disconnect. */
#include "load_generator.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define BACKLOG 4096
#define ID_BUCKETS 65536
#define MAX_EVENTS 16    /* messages in one body of WebSocket-over-HTTP that are counted */
#define PATH_PREFIX "/c/" /* what stands before the number of a client in the path of its handshake */

#define COMMON "Date: Sat, 31 Jan 2026 12:00:00 GMT\r\nServer: load-generator\r\n"
static char accepted[512];
static const char NO_CONTENT[] = "HTTP/1.1 204 No Content\r\n" COMMON "\r\n";
static const char EVENTS[] = "HTTP/1.1 200 OK\r\n" COMMON "Content-Type: application/websocket-events\r\n";

static void make_acceptance(void) {
    char body[256];
    int length = settings.group ? snprintf(body, sizeof body, "{\"code\":\"OK\",\"groups\":[\"%s\"]}", settings.group)
                                : snprintf(body, sizeof body, "{\"code\":\"OK\"}");
    if (length >= (int)sizeof body) fail("the name of the group is too long");
    snprintf(accepted, sizeof accepted, "HTTP/1.1 200 OK\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
             COMMON, length, body);
}

void listen_as_backend(int port) {
    make_acceptance();
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, BACKLOG)) fail_system("the port of the backend");
    watch(LISTENER, fd);
}

/* ------------------------------------------------------------------ heads */

static bool starts_with(const char *line, const char *name) {
    return !strncasecmp(line, name, strlen(name));
}

bool read_head(const char *data, size_t length, struct head *head) {
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) return false;
    *head = (struct head){.length = (size_t)(end + 4 - data)};
    const char *line = memchr(data, '\n', length);
    while (line && line < end) {
        line++;
        const char *next = memchr(line, '\n', (size_t)(end + 2 - line));
        if (!next) break;
        char first = (char)(*line | 32); /* most lines are none of these */
        if (first == 'c' && starts_with(line, "Content-Length:")) {
            head->body = strtoul(line + strlen("Content-Length:"), NULL, 10);
        } else if (first == 'c' && starts_with(line, "Connection: close")) {
            head->closes = true;
        } else if (first == 'w' && starts_with(line, "Ws-Uri: ")) {
            head->uri = line + strlen("Ws-Uri: ");
            head->uri_length = (size_t)(next - 1 - head->uri);
        } else if (first == 't' && starts_with(line, "Transfer-Encoding:")) {
            fail("a chunked body, which the load generator does not parse");
        }
        line = next;
    }
    return true;
}

/* ------------------------------------------------------------------ clients by the path of their ws_uri */

static int id_buckets[ID_BUCKETS]; /* number of the first client and 1; 0: none */

static int *bucket_of(const char *id, int length) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (int i = 0; i < length; i++) hash = (hash ^ (unsigned char)id[i]) * 16777619u;
    return &id_buckets[(hash ^ hash >> 16) % ID_BUCKETS];
}

static int client_by_id(const char *id, int length) {
    int number = *bucket_of(id, length) - 1;
    while (number >= 0 && (clients[number].id_length != length || memcmp(clients[number].id, id, (size_t)length))) {
        number = clients[number].next_in_bucket;
    }
    return number;
}

static void forget_id(int number) {
    struct client *client = &clients[number];
    if (!client->id_length) return;
    int *bucket = bucket_of(client->id, client->id_length);
    client->id_length = 0;
    if (*bucket - 1 == number) {
        *bucket = client->next_in_bucket + 1;
        return;
    }
    int before = *bucket - 1;
    while (clients[before].next_in_bucket != number) before = clients[before].next_in_bucket;
    clients[before].next_in_bucket = client->next_in_bucket;
}

static void remember_id(int number, const char *id, int length) {
    struct client *client = &clients[number];
    forget_id(number);
    if (length <= 0 || length > (int)sizeof client->id) return;
    memcpy(client->id, id, (size_t)length);
    client->id_length = length;
    int *bucket = bucket_of(id, length);
    client->next_in_bucket = *bucket - 1;
    *bucket = number + 1;
}

/* Note which of the control ports the ws_uri of client `number` names. The first one stands for a port that is none. */
static void remember_port(int number, const char *uri, const char *path) {
    const char *colon = memchr(uri, ':', (size_t)(path - uri));
    int port = colon ? atoi(colon + 1) - ntohs(settings.control.sin_port) : 0;
    clients[number].port = port >= 0 && port < settings.control_ports ? port : 0;
}

/* The number of a client is in the path of its handshake, which is somewhere in what the backend gets. */
static int client_in(const char *data, size_t length) {
    const char *path = memmem(data, length, PATH_PREFIX, strlen(PATH_PREFIX));
    if (!path || path + strlen(PATH_PREFIX) + 5 > data + length) return -1;
    path += strlen(PATH_PREFIX);
    int number = 0;
    for (int i = 0; i < 5; i++) number = 10 * number + path[i] - '0';
    return number >= 0 && number < MAX_CLIENTS ? number : -1;
}

/* ------------------------------------------------------------------ events of clients */

/* Count a message of client `number` (-1: not known); return its slot, or -1. */
static int receive_message(int number, const char *data, size_t length) {
    int slot = find_slot(data, length, WAIT_BACKEND);
    if (slot < 0) return -1;
    if (number >= 0 && number != slots[slot].client) {
        run.unexpected++;
        return -1;
    }
    struct client *client = &clients[slots[slot].client];
    if (slots[slot].sequence < client->received_by_backend) run.reordered++;
    else client->received_by_backend = slots[slot].sequence + 1;
    if (slots[slot].workload == MESSAGE) {
        record_latency(run.workload == MESSAGE ? OWN : BESIDE, now() - slots[slot].begun);
    }
    return slot;
}

/* The message in `slot` (-1: none) was answered. */
static void continue_message(int slot) {
    if (slot < 0) return;
    if (slots[slot].workload == MESSAGE) finish_step(slot, WAIT_BACKEND);
    else push_when_possible(slot);
}

static void end_client(int number) {
    if (number < 0) {
        run.unexpected++;
        return;
    }
    forget_id(number);
    clients[number].ended = true;
    finish_if_disconnected(number);
}

/* ------------------------------------------------------------------ responses, at once or after a delay */

/* A ring: all responses are delayed equally, so they are due in their order. */
static struct delayed {
    uint64_t due;
    struct connection *connection;
    unsigned generation;
    int slot;
    const char *text;
    size_t length;
} delayed[MAX_SLOTS];
static int delayed_first, delayed_count;

static void respond(struct connection *connection, const char *text, size_t length, int slot) {
    if (run.delay && delayed_count < MAX_SLOTS) {
        int i = (delayed_first + delayed_count++) % MAX_SLOTS;
        delayed[i] = (struct delayed){now() + run.delay, connection, connection->generation, slot, text, length};
        return;
    }
    transmit_bytes(connection, text, length);
    continue_message(slot);
}

void send_due_responses(uint64_t time) {
    while (delayed_count && delayed[delayed_first].due <= time) {
        const struct delayed *response = &delayed[delayed_first];
        delayed_first = (delayed_first + 1) % MAX_SLOTS;
        delayed_count--;
        if (response->generation == response->connection->generation) {
            transmit_bytes(response->connection, response->text, response->length);
        }
        continue_message(response->slot);
    }
}

void reset_responses(void) {
    delayed_count = 0;
}

/* ------------------------------------------------------------------ requests */

/* Write the event that subscribes a client to `channel`; return its end. */
static char *subscribe(char *to, const char *channel) {
    char text[256];
    int length = snprintf(text, sizeof text, "c:{\"type\":\"subscribe\",\"channel\":\"%s\"}", channel);
    return to + sprintf(to, "TEXT %x\r\n%s\r\n", (unsigned)length, text);
}

/* WebSocket-over-HTTP: the body is events, and the answer is events too. OPEN subscribes the client to the channel that
 * is called by its number, and to that of its group. */
static void take_events(struct connection *connection, const char *data, const struct head *head) {
    const char *at = data + head->length, *end = at + head->body, *extra = "";
    char response[1024], events[768], channel[8] = "", *to = events;
    int number = client_in(data, head->length), received[MAX_EVENTS], count = 0;
    if (number < 0) {
        run.unexpected++;
        at = end;
    }
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at)), *size = memchr(at, ' ', (size_t)(end - at));
        if (!line_end) break;
        bool has_content = size && size < line_end;
        size_t length = has_content ? strtoul(size + 1, NULL, 16) : 0;
        if (!strncmp(at, "OPEN", 4)) {
            *write_number(channel, number) = 0;
            extra = "Sec-WebSocket-Extensions: grip; message-prefix=\"\"\r\n";
            to = subscribe(stpcpy(to, "OPEN\r\n"), channel);
            if (settings.group) to = subscribe(to, settings.group);
            clients[number].posted = true;
        } else if (!strncmp(at, "TEXT", 4) && count < MAX_EVENTS) {
            received[count++] = receive_message(number, line_end + 1, length);
        } else if (!strncmp(at, "CLOSE", 5)) {
            to += sprintf(to, "CLOSE 2\r\n\x03\xe8\r\n");
            end_client(number);
        } else if (!strncmp(at, "DISCONNECT", 10)) {
            end_client(number);
        } else {
            run.unexpected++;
        }
        at = line_end + 1 + (has_content ? length + 2 : 0);
    }
    size_t events_length = (size_t)(to - events);
    int head_length = sprintf(response, "%s%sContent-Length: %zu\r\n\r\n", EVENTS, extra, events_length);
    memcpy(response + head_length, events, events_length);
    transmit_bytes(connection, response, (size_t)head_length + events_length);
    for (int i = 0; i < count; i++) continue_message(received[i]);
}

size_t take_request(struct connection *connection, const char *data, size_t length, size_t *need) {
    struct head head;
    if (!read_head(data, length, &head)) return 0;
    *need = head.length + head.body;
    if (length < *need) return 0;
    if (settings.grip) {
        take_events(connection, data, &head);
        return *need;
    }
    const char *id = head.uri ? memchr(head.uri, '/', head.uri_length) : NULL;
    int id_length = id ? (int)(head.uri + head.uri_length - id) : 0;
    if (!strncmp(data, "POST", 4)) {
        int number = client_in(data, *need);
        if (number < 0) {
            run.unexpected++;
        } else {
            clients[number].posted = true;
            remember_id(number, id, id_length);
            if (id) remember_port(number, head.uri, id);
        }
        respond(connection, accepted, strlen(accepted), -1);
        return *need;
    }
    int number = id ? client_by_id(id, id_length) : client_in(data, head.length);
    int slot = !strncmp(data, "PUT", 3) ? receive_message(number, data + head.length, head.body) : -1;
    respond(connection, NO_CONTENT, sizeof NO_CONTENT - 1, slot);
    if (!strncmp(data, "DELETE", 6)) end_client(number);
    return *need;
}
