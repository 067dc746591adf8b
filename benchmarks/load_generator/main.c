/* The load generator: WebSocket clients, the backend's HTTP server and its pushes, in one thread. See the README. */
#include "load_generator.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct settings settings = {.core = -1, .control_ports = 1, .timeout = (uint64_t)10 * NANOSECONDS};

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "load generator: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

void fail_system(const char *what) {
    fail("%s: %s", what, strerror(errno));
}

void *resize(void *old, size_t size) {
    void *new = realloc(old, size);
    if (!new) fail("no memory");
    return new;
}

uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * NANOSECONDS + (uint64_t)at.tv_nsec;
}

/* ------------------------------------------------------------------ arguments */

/* Parse HOST:PORT, where HOST is an IPv4 address. */
static struct sockaddr_in parse_address(const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strchr(text, ':');
    if (!colon || colon - text >= (long)sizeof host) fail("%s is not HOST:PORT", text);
    snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) fail("%s is not HOST:PORT with an IPv4 address", text);
    return address;
}

/* Parse HOST:FIRST-LAST, or HOST:PORT. */
static void parse_control(const char *text) {
    settings.control = parse_address(text);
    const char *last = strchr(text, '-');
    if (last) settings.control_ports = atoi(last + 1) - ntohs(settings.control.sin_port) + 1;
    if (settings.control_ports < 1 || settings.control_ports > MAX_PORTS) {
        fail("%s is not a range of at most %d ports", text, MAX_PORTS);
    }
}

static void parse_arguments(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        char *name = arguments[i], *value = strchr(name, '=');
        if (!value) fail("%s is not KEY=VALUE", name);
        *value++ = 0;
        if (!strcmp(name, "core")) settings.core = atoi(value);
        else if (!strcmp(name, "backend")) settings.backend_port = atoi(value);
        else if (!strcmp(name, "client")) settings.client = parse_address(value);
        else if (!strcmp(name, "control")) parse_control(value);
        else if (!strcmp(name, "handshake")) settings.handshake = value;
        else if (!strcmp(name, "push")) settings.push = value;
        else if (!strcmp(name, "publish")) settings.publish = value;
        else if (!strcmp(name, "send")) settings.send = value;
        else if (!strcmp(name, "group")) settings.group = value;
        else if (!strcmp(name, "grip")) settings.grip = atoi(value);
        else if (!strcmp(name, "timeout")) settings.timeout = (uint64_t)(atof(value) * NANOSECONDS);
        else fail("unknown argument %s", name);
    }
    if (!settings.handshake || !settings.push) fail("handshake and push are needed");
}

static void pin_to_core(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores)) fail_system("sched_setaffinity");
}

/* ------------------------------------------------------------------ commands */

static void perform(char *command) {
    if (!strncmp(command, "open ", 5)) {
        open_clients(atoi(command + 5));
    } else if (!strncmp(command, "run ", 4)) {
        prepare_run(command + 4);
        perform_run();
    } else if (!strcmp(command, "quit")) {
        exit(0);
    } else {
        fail("unknown command %s", command);
    }
}

/* Perform the commands on stdin until it ends. Between them, events of the connections are handled as they come. */
static void perform_commands(void) {
    static char line[4096];
    size_t length = 0;
    watch(COMMANDS, STDIN_FILENO);
    for (;;) {
        handle_events(-1);
        struct pollfd readable = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&readable, 1, 0) <= 0) continue;
        ssize_t got = read(STDIN_FILENO, line + length, sizeof line - 1 - length);
        if (got <= 0) exit(0);
        length += (size_t)got;
        line[length] = 0;
        char *end = strchr(line, '\n');
        if (!end) continue;
        *end = 0;
        length = 0;
        perform(line);
    }
}

int main(int count, char **arguments) {
    parse_arguments(count, arguments);
    if (settings.core >= 0) pin_to_core(settings.core);
    clients = calloc(MAX_CLIENTS, sizeof *clients);
    if (!clients) fail("no memory");
    open_epoll();
    listen_as_backend(settings.backend_port);
    printf("{\"listening\":%d}\n", settings.backend_port);
    fflush(stdout);
    perform_commands();
}
