/* Payloads: 16 hexadecimal digits (client 5, sequence number 7, slot 4), then known text, all of which is compared. */
#include "load_generator.h"

#include <string.h>

#define CLIENT_DIGITS 5
#define SEQUENCE_DIGITS 7
#define SLOT_DIGITS 4
#define SEQUENCE_MASK 0xfffffffu

char *filler, *masked_filler;
const unsigned char MASK[4] = {0x5a, 0xc3, 0x17, 0x88};
static size_t filler_size;

static void write_hex(char *to, uint32_t value, int digits) {
    while (digits--) {
        to[digits] = "0123456789abcdef"[value & 15];
        value >>= 4;
    }
}

static uint32_t read_hex(const char *from, int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; i++) {
        char digit = from[i];
        value = value << 4 | (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    return value;
}

void make_filler(size_t size) {
    if (size <= filler_size) return;
    filler = resize(filler, size);
    masked_filler = resize(masked_filler, size);
    uint32_t state = 2463534242u;
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        filler[i] = (char)('a' + state % 26);
        masked_filler[i] = (char)((unsigned char)filler[i] ^ MASK[i & 3]);
    }
    filler_size = size;
}

void write_payload_head(char *to, int slot) {
    write_hex(to, (uint32_t)slots[slot].client, CLIENT_DIGITS);
    write_hex(to + CLIENT_DIGITS, slots[slot].sequence & SEQUENCE_MASK, SEQUENCE_DIGITS);
    write_hex(to + CLIENT_DIGITS + SEQUENCE_DIGITS, (uint32_t)slot, SLOT_DIGITS);
}

int find_slot(const char *payload, size_t length, int wait) {
    if (length != run.size || memcmp(payload + PAYLOAD_HEAD, filler + PAYLOAD_HEAD, length - PAYLOAD_HEAD)) {
        run.corrupted++;
        return -1;
    }
    uint32_t client = read_hex(payload, CLIENT_DIGITS);
    uint32_t sequence = read_hex(payload + CLIENT_DIGITS, SEQUENCE_DIGITS);
    uint32_t number = read_hex(payload + CLIENT_DIGITS + SEQUENCE_DIGITS, SLOT_DIGITS);
    const struct slot *slot = number < MAX_SLOTS ? &slots[number] : NULL;
    if (!run.on || !slot || !(slot->waits & wait) || (uint32_t)slot->client != client ||
        (slot->sequence & SEQUENCE_MASK) != sequence) {
        run.unexpected++;
        return -1;
    }
    return (int)number;
}
