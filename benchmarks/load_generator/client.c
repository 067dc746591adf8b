/* WebSocket clients: they connect, send messages, and take what is pushed to them. */
#include "load_generator.h"

#include <stdio.h>
#include <string.h>

#define HANDSHAKES_AT_ONCE 64
#define LARGEST_SHORT_FRAME 125

enum opcode { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

struct client *clients;
int opened_clients, lost_clients;
static int connecting_clients, wanted_clients;

/* ------------------------------------------------------------------ connecting and disconnecting */

void connect_client(int number) {
    char request[4096], *to = request;
    const char *template = settings.handshake, *place;
    struct client *client = &clients[number];
    client->posted = client->ended = false;
    client->sent = client->received_by_backend = client->pushed = 0;
    client->connection = dial(CLIENT, &settings.client);
    client->connection->client = number;
    while ((place = strstr(template, "{n}"))) {
        to = mempcpy(to, template, (size_t)(place - template));
        to += sprintf(to, "%05d", number);
        template = place + 3;
    }
    to = stpcpy(to, template);
    transmit_bytes(client->connection, request, (size_t)(to - request));
}

static void connect_more(void) {
    while (connecting_clients < HANDSHAKES_AT_ONCE && opened_clients + connecting_clients < wanted_clients) {
        connect_client(opened_clients + connecting_clients++);
    }
}

void open_clients(int number) {
    uint64_t begin = now(), progress = begin;
    int before = -1, posted = 0;
    if (number > MAX_CLIENTS) fail("too many clients");
    wanted_clients = number;
    connect_more();
    while (opened_clients < wanted_clients || posted < wanted_clients) {
        handle_events(0);
        if (opened_clients > before) {
            before = opened_clients;
            progress = now();
        }
        while (posted < opened_clients && clients[posted].posted) posted++;
        if (now() - progress > settings.timeout || lost_clients) {
            fail("clients could not connect, or the backend did not hear of them");
        }
    }
    printf("{\"open\":%d,\"seconds\":%.6f}\n", opened_clients, (double)(now() - begin) / NANOSECONDS);
    fflush(stdout);
}

void finish_if_disconnected(int number) {
    struct client *client = &clients[number];
    if (run.on && run.workload == CONNECT && client->ended && !client->connection && number >= opened_clients) {
        finish_step(number - opened_clients, WAIT_BACKEND);
    }
}

void lose_client(struct connection *connection) {
    struct client *client = &clients[connection->client];
    if (client->connection != connection) return;
    client->connection = NULL;
    drop(connection);
    if (run.on && run.workload == CONNECT && connection->client >= opened_clients && connection->closing) {
        finish_if_disconnected(connection->client);
    } else {
        lost_clients++;
    }
}

/* ------------------------------------------------------------------ sending */

static void send_short_frame(struct connection *connection, enum opcode opcode, const void *data, size_t length) {
    unsigned char frame[6 + LARGEST_SHORT_FRAME];
    if (length > LARGEST_SHORT_FRAME) length = LARGEST_SHORT_FRAME;
    frame[0] = (unsigned char)(0x80 | opcode);
    frame[1] = (unsigned char)(0x80 | length);
    memcpy(frame + 2, MASK, 4);
    for (size_t i = 0; i < length; i++) frame[6 + i] = ((const unsigned char *)data)[i] ^ MASK[i & 3];
    transmit_bytes(connection, frame, 6 + length);
}

/* Write the head of a frame with a text of `size` bytes; return its length. */
static size_t write_frame_head(unsigned char *to, size_t size) {
    size_t length = size < 126 ? 2 : size < 65536 ? 4 : 10;
    to[0] = 0x80 | TEXT;
    to[1] = 0x80 | (unsigned char)(length == 2 ? size : length == 4 ? 126 : 127);
    for (size_t i = length - 1, rest = size; i > 1; i--, rest >>= 8) to[i] = (unsigned char)rest;
    memcpy(to + length, MASK, 4);
    return length + 4;
}

void send_message(int slot) {
    static unsigned char data[14 + SMALL];
    struct client *client = &clients[slots[slot].client];
    slots[slot].sequence = client->sent++;
    slots[slot].waits = WAIT_BACKEND;
    size_t length = write_frame_head(data, run.size);
    write_payload_head((char *)data + length, slot);
    for (size_t i = 0; i < PAYLOAD_HEAD; i++) data[length + i] ^= MASK[i & 3];
    length += PAYLOAD_HEAD;
    if (run.size <= SMALL) {
        memcpy(data + length, masked_filler + PAYLOAD_HEAD, run.size - PAYLOAD_HEAD);
        transmit_bytes(client->connection, data, length + run.size - PAYLOAD_HEAD);
        return;
    }
    struct iovec pieces[2] = {{data, length}, {masked_filler + PAYLOAD_HEAD, run.size - PAYLOAD_HEAD}};
    transmit(client->connection, pieces, 2);
}

/* ------------------------------------------------------------------ receiving */

static void receive_message(struct connection *connection, const char *data, size_t length) {
    int slot = find_slot(data, length, WAIT_FRAME);
    if (slot < 0) return;
    if (slots[slot].workload >= FANOUT) {
        receive_published(slot, connection->client);
        return;
    }
    if (slots[slot].client != connection->client) {
        run.unexpected++;
        return;
    }
    record_latency(OWN, now() - slots[slot].begun);
    check_order(slot);
    finish_step(slot, WAIT_FRAME);
}

static void receive_data(struct connection *connection, const char *data, size_t length, bool final) {
    if (final && !connection->message.length) {
        receive_message(connection, data, length);
        return;
    }
    append(&connection->message, data, length);
    if (final) {
        receive_message(connection, connection->message.data, connection->message.length);
        connection->message.length = 0;
    }
}

size_t take_frame(struct connection *connection, const char *data, size_t length, size_t *need) {
    const unsigned char *bytes = (const unsigned char *)data;
    if (length < 2) return 0;
    size_t size = bytes[1];
    size_t head = size == 126 ? 4 : size == 127 ? 10 : 2;
    if (length < head) return 0;
    if (head > 2) {
        size = 0;
        for (size_t i = 2; i < head; i++) size = size << 8 | bytes[i];
    }
    *need = head + size;
    if (length < *need) return 0;
    int opcode = bytes[0] & 15;
    bool has_reserved_bits = bytes[0] & 0x70, is_masked = bytes[1] & 0x80;
    if (has_reserved_bits || is_masked) run.corrupted++;
    else if (opcode == PING) send_short_frame(connection, PONG, data + head, size);
    else if (opcode == CLOSE) lose_client(connection);
    else if (opcode <= BINARY) receive_data(connection, data + head, size, bytes[0] & 0x80);
    return *need;
}

size_t take_handshake(struct connection *connection, const char *data, size_t length) {
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) return 0;
    if (strncmp(data, "HTTP/1.1 101", 12)) {
        fail("a handshake was answered %.*s", (int)strcspn(data, "\r"), data);
    }
    connection->opened = true;
    if (!run.on) {
        connecting_clients--;
        opened_clients++;
        connect_more();
    } else if (run.workload == CONNECT) {
        record_latency(OWN, now() - slots[connection->client - opened_clients].begun);
        send_short_frame(connection, CLOSE, "\x03\xe8", 2);
        connection->closing = true;
    }
    return (size_t)(end + 4 - data);
}
