/* Runs: which messages are started when, what becomes of them, and the report. */
#include "load_generator.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BESIDE_WINDOW 4096 /* most messages under way beside publishes */
#define QUIET 2000000u /* nanoseconds before and after a run, for what is still on its way */

/* The buckets of the histogram have 7 significant bits: they are less than 1 % wide. */
#define BUCKET_BITS 7
#define BUCKETS (64 << BUCKET_BITS)

static const char *const WORKLOADS[] = {"push", "message", "echo", "connect", "fanout", "send"};
#define WORKLOAD_COUNT (int)(sizeof WORKLOADS / sizeof *WORKLOADS)

struct run run;
struct slot slots[MAX_SLOTS];
static int free_slots[MAX_SLOTS], free_count, under_way, next_client;
static uint32_t histograms[HISTOGRAMS][BUCKETS];

/* ------------------------------------------------------------------ latencies */

void record_latency(int histogram, uint64_t nanoseconds) {
    unsigned bucket = (unsigned)nanoseconds;
    if (nanoseconds >= 1u << BUCKET_BITS) {
        unsigned exponent = 63u - (unsigned)__builtin_clzll(nanoseconds);
        unsigned digits = (unsigned)(nanoseconds >> (exponent - BUCKET_BITS)) & ((1u << BUCKET_BITS) - 1);
        bucket = ((exponent - BUCKET_BITS + 1) << BUCKET_BITS) + digits;
    }
    histograms[histogram][bucket]++;
}

/* Return the middle of a bucket in nanoseconds. */
static uint64_t middle_of(unsigned bucket) {
    if (bucket < 1u << BUCKET_BITS) return bucket;
    unsigned exponent = (bucket >> BUCKET_BITS) + BUCKET_BITS - 1;
    uint64_t digits = (1u << BUCKET_BITS) + (bucket & ((1u << BUCKET_BITS) - 1));
    uint64_t width = (uint64_t)1 << (exponent - BUCKET_BITS);
    return digits * width + width / 2;
}

/* ------------------------------------------------------------------ messages */

void finish_step(int slot, int wait) {
    run.progress = now();
    slots[slot].waits &= ~wait;
    if (slots[slot].waits) return;
    clients[slots[slot].client].under_way--;
    free_slots[free_count++] = slot;
    under_way--;
    if (slots[slot].workload == run.workload && run.workload < FANOUT) run.finished++;
}

static void start_message(enum workload workload, uint64_t begun) {
    int slot = free_slots[--free_count];
    struct slot *message = &slots[slot];
    message->workload = workload;
    message->begun = begun;
    under_way++;
    if (workload == run.workload) run.started++;
    if (workload == CONNECT) {
        message->client = opened_clients + slot;
        message->waits = WAIT_BACKEND;
        clients[message->client].under_way++;
        connect_client(message->client);
        return;
    }
    message->client = next_client;
    next_client = (next_client + (workload == SEND ? run.batch : 1)) % run.active;
    clients[message->client].under_way++;
    if (workload == PUSH) push(slot);
    else if (workload >= FANOUT) publish(slot);
    else send_message(slot);
}

/* Return a random number between 0 and 1. */
static double uniform(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return ((double)(state >> 11) + 0.5) / 9007199254740992.0;
}

static bool all_started(uint64_t time) {
    if (run.count) return run.started >= run.count;
    return (run.rate > 0 ? run.due : time) >= run.end;
}

static uint64_t gap(double rate) {
    return (uint64_t)(-log(uniform()) / rate * NANOSECONDS);
}

static bool is_blocked(void) {
    if (run.workload >= FANOUT) return publish_is_under_way() || !pusher_is_idle_for(next_client);
    return !free_count || (run.workload == PUSH && !pusher_is_idle_for(next_client));
}

/* The latency of a message in the open loop begins when it is due, however long it waits for a slot or a connection. */
static void start_messages(uint64_t time) {
    while (run.starting) {
        if (all_started(time)) {
            run.starting = false;
            return;
        }
        if (is_blocked()) return;
        if (run.rate > 0) {
            if (run.due > time) return;
            start_message(run.workload, run.due);
            run.due += gap(run.rate);
        } else {
            start_message(run.workload, now());
        }
    }
}

/* One slot stays free for the next publish. */
static void start_messages_beside(uint64_t time) {
    while (run.beside > 0 && run.starting && run.beside_due <= time && free_count > 1) {
        start_message(MESSAGE, run.beside_due);
        run.beside_due += gap(run.beside);
    }
}

/* ------------------------------------------------------------------ a run */

static int workload_named(const char *name) {
    for (int i = 0; i < WORKLOAD_COUNT; i++) {
        if (!strcmp(name, WORKLOADS[i])) return i;
    }
    fail("unknown case %s", name);
}

void prepare_run(char *options) {
    run = (struct run){.seconds = 1, .window = 32, .connections = 32, .size = 128, .active = opened_clients, .batch = 100};
    memset(histograms, 0, sizeof histograms);
    for (char *option = strtok(options, " "); option; option = strtok(NULL, " ")) {
        char *value = strchr(option, '=');
        if (!value) fail("%s is not KEY=VALUE", option);
        *value++ = 0;
        if (!strcmp(option, "case")) run.workload = (enum workload)workload_named(value);
        else if (!strcmp(option, "seconds")) run.seconds = atof(value);
        else if (!strcmp(option, "count")) run.count = strtoull(value, NULL, 10);
        else if (!strcmp(option, "rate")) run.rate = atof(value);
        else if (!strcmp(option, "window")) run.window = atoi(value);
        else if (!strcmp(option, "connections")) run.connections = atoi(value);
        else if (!strcmp(option, "active")) run.active = atoi(value);
        else if (!strcmp(option, "size")) run.size = strtoul(value, NULL, 10);
        else if (!strcmp(option, "batch")) run.batch = atoi(value);
        else if (!strcmp(option, "lines")) run.lines = atoi(value);
        else if (!strcmp(option, "beside")) run.beside = atof(value);
        else if (!strcmp(option, "misdirect")) run.misdirect = atoi(value);
        else if (!strcmp(option, "delay")) run.delay = (uint64_t)(atof(value) * NANOSECONDS);
        else fail("unknown option %s", option);
    }
    if (run.size < PAYLOAD_HEAD) fail("a message needs 16 bytes");
    if (run.active > opened_clients) run.active = opened_clients;
    if (run.window > MAX_SLOTS) run.window = MAX_SLOTS;
    if (run.workload >= FANOUT) {
        run.window = 1 + (run.beside > 0 ? BESIDE_WINDOW : 0);
        run.connections = 1;
        if (run.batch > run.active) run.batch = run.active;
    } else if (run.beside > 0) {
        fail("only beside publishes");
    }
    if (run.workload != CONNECT && (!run.active || lost_clients)) fail("no client is open, or one was closed");
    if (run.workload == CONNECT && opened_clients + run.window > MAX_CLIENTS) fail("too many clients");
}

static void reset(void) {
    make_filler(run.size);
    compile_push(run.size);
    reset_pushes();
    if (run.workload >= FANOUT) reset_publishes();
    reset_responses();
    memset(slots, 0, sizeof slots);
    free_count = under_way = next_client = 0;
    for (int slot = run.window - 1; slot >= 0; slot--) free_slots[free_count++] = slot;
    for (int i = 0; i < opened_clients; i++) clients[i].under_way = 0;
    if (run.workload != MESSAGE && run.workload != CONNECT) open_pushers(run.connections);
}

static void print_histogram(const uint32_t *histogram) {
    const char *comma = "[";
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (!histogram[i]) continue;
        printf("%s[%" PRIu64 ",%u]", comma, middle_of(i), histogram[i]);
        comma = ",";
    }
    printf(*comma == '[' ? "[]" : "]");
}

static void report(uint64_t elapsed) {
    double behind = run.rate > 0 && !run.count && run.due < run.end ? (double)(run.end - run.due) / NANOSECONDS : 0.0;
    printf("{\"case\":\"%s\",\"clients\":%d,", WORKLOADS[run.workload], opened_clients);
    printf("\"seconds\":%.6f,\"messages\":%" PRIu64 ",", (double)elapsed / NANOSECONDS, run.finished);
    printf("\"busy\":%.4f,\"turns\":%" PRIu64 ",", 1 - (double)run.idle_time / (double)elapsed, run.turns);
    printf("\"turns_with_events\":%" PRIu64 ",", run.turns - run.idle_turns);
    printf("\"lost\":%" PRIu64 ",\"reordered\":%" PRIu64 ",", run.lost, run.reordered);
    printf("\"unexpected\":%" PRIu64 ",\"corrupted\":%" PRIu64 ",", run.unexpected, run.corrupted);
    printf("\"refused\":%" PRIu64 ",\"broken\":%" PRIu64 ",", run.refused, run.broken);
    printf("\"behind\":%.6f,\"latency\":", behind);
    print_histogram(histograms[OWN]);
    printf(",\"beside\":");
    print_histogram(histograms[BESIDE]);
    printf("}\n");
    fflush(stdout);
}

/* Return whether the run is to be given up: nothing has come for so long that nothing will. */
static bool is_stuck(uint64_t time) {
    bool expects_something = under_way || run.rate <= 0;
    return expects_something && time > run.progress && time - run.progress > settings.timeout + run.delay;
}

static void handle_events_until(uint64_t time) {
    while (now() < time) handle_events(0);
}

void perform_run(void) {
    reset();
    handle_events_until(now() + QUIET);
    run.on = run.starting = true;
    run.turns = run.idle_turns = run.idle_time = 0;
    run.begin = run.progress = run.due = run.beside_due = now();
    run.end = run.begin + (uint64_t)(run.seconds * NANOSECONDS);
    uint64_t time = run.begin;
    while ((run.starting || under_way) && !is_stuck(time)) {
        uint64_t idle_turns = run.idle_turns;
        send_due_responses(time);
        start_messages(time);
        start_messages_beside(time);
        handle_events(0);
        uint64_t after = now();
        if (run.idle_turns > idle_turns) run.idle_time += after - time;
        time = after;
    }
    uint64_t last = under_way ? time : run.progress;
    handle_events_until(now() + QUIET); /* what comes twice comes now */
    run.lost = (uint64_t)under_way + missing_frames();
    run.broken += (uint64_t)lost_clients;
    run.on = run.starting = false;
    report(last - run.begin);
}
