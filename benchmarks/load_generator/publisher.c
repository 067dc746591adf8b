/* One request that reaches many clients: a publish to all, or one that names its recipients. All get the same payload. */
#include "load_generator.h"

#include <stdio.h>
#include <string.h>

static struct buffer request, body;
static int current;        /* slot of the latest publish */
static int recipients, missing;
static uint32_t sequence;  /* of the current publish */

void reset_publishes(void) {
    const char *template = run.workload == SEND ? settings.send : settings.publish;
    if (!template || !strstr(template, "\r\n\r\n")) fail("no template of this request, or one without a head");
    if (run.size > SMALL) fail("a publish of more than %d bytes", SMALL);
    current = missing = 0;
    sequence = 0;
    for (int i = 0; i < opened_clients; i++) clients[i].published = 0;
}

bool publish_is_under_way(void) {
    return slots[current].waits && slots[current].workload >= FANOUT; /* a message beside it may have the slot now */
}

uint64_t missing_frames(void) {
    /* The publish itself counts as one message under way. */
    return publish_is_under_way() && missing ? (uint64_t)missing - 1 : 0;
}

/* ------------------------------------------------------------------ sending */

static void append_text(struct buffer *to, const char *text) {
    append(to, text, strlen(text));
}

/* Append the paths of `count` clients from `first` on, as JSON strings with commas. */
static void append_ids(int first, int count) {
    for (int i = 0; i < count; i++) {
        const struct client *client = &clients[(first + i) % run.active];
        append_text(&body, i ? ",\"" : "\"");
        append(&body, client->id, (size_t)client->id_length);
        append_text(&body, "\"");
    }
}

/* Append `template` with its placeholders filled in. */
static void fill_body(const char *template, int slot, int first, int count) {
    char payload[SMALL];
    write_payload_head(payload, slot);
    memcpy(payload + PAYLOAD_HEAD, filler + PAYLOAD_HEAD, run.size - PAYLOAD_HEAD);
    while (*template) {
        if (!strncmp(template, "{ids}", 5)) {
            append_ids(first, count);
            template += 5;
        } else if (!strncmp(template, "{body}", 6)) {
            append(&body, payload, run.size);
            template += 6;
        } else {
            size_t length = 1 + strcspn(template + 1, "{");
            append(&body, template, length);
            template += length;
        }
    }
}

/* Append the head of a request, with the length of the body. */
static void fill_head(const char *template, size_t length) {
    const char *place = memmem(template, length, "{length}", 8);
    char number[24];
    if (!place) fail("a publish without {length} in its head");
    append(&request, template, (size_t)(place - template));
    snprintf(number, sizeof number, "%zu", body.length);
    append_text(&request, number);
    append(&request, place + 8, length - (size_t)(place + 8 - template));
}

void publish(int slot) {
    const char *template = run.workload == SEND ? settings.send : settings.publish;
    const char *body_template = strstr(template, "\r\n\r\n") + 4;
    int first = slots[slot].client;
    current = slot;
    recipients = missing = run.workload == SEND ? run.batch : run.active;
    slots[slot].sequence = ++sequence;
    slots[slot].waits = WAIT_FRAME | WAIT_RESPONSE;
    request.length = body.length = 0;
    int lines = run.lines ? recipients : 1;
    for (int i = 0; i < lines; i++) {
        if (i) append_text(&body, "\n");
        fill_body(body_template, slot, first + i, recipients / lines);
    }
    fill_head(template, (size_t)(body_template - template));
    append(&request, body.data, body.length);
    transmit_bytes(take_idle_pusher(slot), request.data, request.length);
}

/* ------------------------------------------------------------------ receiving */

void receive_published(int slot, int client) {
    int place = (client - slots[slot].client + run.active) % run.active;
    if (client >= run.active || place >= recipients || clients[client].published > sequence) {
        run.unexpected++;
        return;
    }
    clients[client].published = sequence + 1;
    run.finished++;
    if (--missing) return;
    record_latency(OWN, now() - slots[slot].begun);
    finish_step(slot, WAIT_FRAME);
}
