/* Pushes of the backend: requests made from a template, on connections with one request at a time. */
#include "load_generator.h"

#include <stdio.h>
#include <string.h>

#define MAX_PIECES 16
#define MAX_HEAD 8192

/* The template of a push, cut at its placeholders. */
enum piece_kind { TEXT, NUMBER, ID, BODY };
static struct piece {
    enum piece_kind kind;
    char text[1024];
    size_t length;
} pieces[MAX_PIECES];
static int piece_count;

/* One of the ports that pushes go to, and the connections to it. */
static struct port {
    struct connection *idle;
    int connections;
    int waiting[MAX_SLOTS], first, count; /* a ring of slots that wait for a connection */
} ports[MAX_PORTS];

static const struct placeholder {
    const char *text;
    enum piece_kind kind;
} PLACEHOLDERS[] = {{"{n}", NUMBER}, {"{id}", ID}, {"{body}", BODY}, {"{length}", TEXT}};

static const struct placeholder *placeholder_at(const char *at) {
    for (size_t i = 0; i < sizeof PLACEHOLDERS / sizeof *PLACEHOLDERS; i++) {
        if (!strncmp(at, PLACEHOLDERS[i].text, strlen(PLACEHOLDERS[i].text))) return &PLACEHOLDERS[i];
    }
    return NULL;
}

/* Return the length of the body of a push whose message has `size` bytes. */
static size_t body_length(size_t size) {
    const char *at = strstr(settings.push, "\r\n\r\n");
    size_t length = 0;
    if (!at) fail("a push without a head");
    for (at += 4; *at;) {
        const struct placeholder *found = placeholder_at(at);
        if (!found) length++;
        else if (found->kind == NUMBER) length += 5;
        else if (found->kind == BODY) length += size;
        else fail("only {n} and {body} may be in the body of a push");
        at += found ? strlen(found->text) : 1;
    }
    return length;
}

void compile_push(size_t size) {
    size_t length = body_length(size);
    piece_count = 0;
    for (const char *at = settings.push; *at;) {
        if (piece_count == MAX_PIECES) fail("too many placeholders in a push");
        struct piece *piece = &pieces[piece_count++];
        const struct placeholder *found = placeholder_at(at);
        size_t used = found ? strlen(found->text) : 1 + strcspn(at + 1, "{");
        piece->kind = found ? found->kind : TEXT;
        if (found && found->kind == TEXT) {
            piece->length = (size_t)snprintf(piece->text, sizeof piece->text, "%zu", length);
        } else if (!found) {
            if (used > sizeof piece->text) fail("a push is too long");
            piece->length = used;
            memcpy(piece->text, at, used);
        }
        at += used;
    }
}

char *write_number(char *to, int number) {
    for (int digit = 4; digit >= 0; digit--, number /= 10) to[digit] = (char)('0' + number % 10);
    return to + 5;
}

/* Send the push of `slot`. A large body is sent from where it is, between the two parts of the rest. */
static void send_push(struct connection *connection, int slot) {
    static char head[MAX_HEAD];
    const struct client *client = &clients[slots[slot].client];
    struct iovec parts[3] = {{head, 0}};
    char *to = head;
    int count = 1;
    for (int i = 0; i < piece_count; i++) {
        const struct piece *piece = &pieces[i];
        if (piece->kind == TEXT) to = mempcpy(to, piece->text, piece->length);
        else if (piece->kind == ID) to = mempcpy(to, client->id, (size_t)client->id_length);
        else if (piece->kind == NUMBER) to = write_number(to, slots[slot].client);
        else {
            write_payload_head(to, slot);
            to += PAYLOAD_HEAD;
            if (run.size <= SMALL) {
                to = mempcpy(to, filler + PAYLOAD_HEAD, run.size - PAYLOAD_HEAD);
            } else {
                parts[0].iov_len = (size_t)(to - head);
                parts[1] = (struct iovec){filler + PAYLOAD_HEAD, run.size - PAYLOAD_HEAD};
                parts[2].iov_base = to;
                count = 3;
            }
        }
    }
    parts[count - 1].iov_len = (size_t)(to - (char *)parts[count - 1].iov_base);
    transmit(connection, parts, count);
}

/* ------------------------------------------------------------------ connections */

static int port_for(int client) {
    return (clients[client].port + run.misdirect) % settings.control_ports;
}

static struct connection *dial_port(int port) {
    struct sockaddr_in address = settings.control;
    address.sin_port = htons((uint16_t)(ntohs(address.sin_port) + port));
    struct connection *connection = dial(PUSHER, &address);
    connection->port = port;
    return connection;
}

bool pusher_is_idle_for(int client) {
    return ports[port_for(client)].idle;
}

struct connection *take_idle_pusher(int slot) {
    struct port *port = &ports[port_for(slots[slot].client)];
    struct connection *connection = port->idle;
    port->idle = connection->next;
    connection->slot = slot;
    return connection;
}

void push(int slot) {
    struct connection *connection = take_idle_pusher(slot);
    slots[slot].sequence = clients[slots[slot].client].pushed++;
    slots[slot].waits = WAIT_FRAME | WAIT_RESPONSE;
    slots[slot].overtaken = false;
    slots[slot].pushed = now();
    send_push(connection, slot);
}

void push_when_possible(int slot) {
    struct port *port = &ports[port_for(slots[slot].client)];
    if (port->idle) push(slot);
    else port->waiting[(port->first + port->count++) % MAX_SLOTS] = slot;
}

static void add_idle(struct connection *connection) {
    struct port *port = &ports[connection->port];
    connection->slot = -1;
    connection->next = port->idle;
    port->idle = connection;
    if (port->count) {
        int slot = port->waiting[port->first];
        port->first = (port->first + 1) % MAX_SLOTS;
        port->count--;
        push(slot);
    }
}

static void open_pushers_to(int number, int to) {
    struct port *port = &ports[to];
    while (port->connections > number && port->idle) {
        struct connection *connection = port->idle;
        port->idle = connection->next;
        port->connections--;
        drop(connection);
    }
    for (; port->connections < number; port->connections++) add_idle(dial_port(to));
}

void open_pushers(int number) {
    for (int port = 0; port < settings.control_ports; port++) open_pushers_to(number, port);
}

void reset_pushes(void) {
    for (int port = 0; port < settings.control_ports; port++) ports[port].count = 0;
}

void lose_pusher(struct connection *connection) {
    struct port *port = &ports[connection->port];
    port->connections--;
    if (connection->slot >= 0) run.broken++;
    for (struct connection **place = &port->idle; *place; place = &(*place)->next) {
        if (*place == connection) {
            *place = connection->next;
            break;
        }
    }
    drop(connection);
}

void check_order(int slot) {
    const struct slot *arrived = &slots[slot];
    if (arrived->overtaken) run.reordered++;
    if (clients[arrived->client].under_way < 2) return;
    for (int i = 0; i < run.window; i++) {
        struct slot *other = &slots[i];
        if (i != slot && other->waits == WAIT_FRAME && other->client == arrived->client &&
            other->answered < arrived->pushed) {
            other->overtaken = true;
        }
    }
}

static void finish_push(struct connection *connection, bool accepted) {
    int slot = connection->slot;
    if (slot < 0) {
        run.unexpected++;
        return;
    }
    add_idle(connection);
    if (!accepted) {
        run.refused++;
        finish_step(slot, WAIT_FRAME | WAIT_RESPONSE);
        return;
    }
    slots[slot].answered = now();
    finish_step(slot, WAIT_RESPONSE);
}

size_t take_response(struct connection *connection, const char *data, size_t length, size_t *need) {
    struct head head;
    if (!read_head(data, length, &head)) return 0;
    *need = head.length + head.body;
    if (length < *need) return 0;
    if (head.closes) { /* the next push needs a new connection */
        struct connection *next = dial_port(connection->port);
        next->slot = connection->slot;
        drop(connection);
        connection = next;
    }
    finish_push(connection, data[9] == '2');
    return *need;
}
