/* What the parts of the load generator share. The README says what the program does.
 *
 * All state is static and belongs to one thread. What is shared is declared here with the file that owns it.
 */
#ifndef LOAD_GENERATOR_H
#define LOAD_GENERATOR_H

#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define NANOSECONDS 1000000000u
#define MAX_CLIENTS 65536
#define MAX_SLOTS 65536
#define MAX_PORTS 16 /* that the backend sends pushes to */
#define PAYLOAD_HEAD 16 /* hexadecimal digits at the start of each payload: its least size */
#define SMALL 4096      /* bytes of a payload up to which it is copied behind its head */

/* ------------------------------------------------------------------ main.c: settings and small helpers */

struct settings {
    int core;                   /* that this process is pinned to; -1: none */
    int backend_port;           /* on which it listens as the backend */
    struct sockaddr_in client;  /* where clients connect */
    struct sockaddr_in control; /* where the backend sends pushes: the first of */
    int control_ports;          /* consecutive ports, each of another process of the target */
    const char *handshake;      /* template, see the README */
    const char *push;           /* template, see the README */
    const char *publish;        /* template of a request that reaches all clients; NULL: none */
    const char *send;           /* template of a request that names the clients that it reaches; NULL: none */
    const char *group;          /* that the backend lets all clients join; NULL: none */
    bool grip;                  /* the backend speaks WebSocket-over-HTTP instead of POST, PUT and DELETE */
    uint64_t timeout;           /* nanoseconds without progress after which a run is given up */
};
extern struct settings settings;

/* Print why, and end the program with status 1. The second one adds the text of errno. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail_system(const char *what);
void *resize(void *old, size_t size);
uint64_t now(void); /* monotonic nanoseconds */

/* ------------------------------------------------------------------ run.c: runs and the messages under way */

enum workload { PUSH, MESSAGE, ECHO, CONNECT, FANOUT, SEND };

struct run {
    /* Options. */
    enum workload workload;
    double seconds;   /* starts messages for this long, */
    uint64_t count;   /* or this many; 0: for `seconds` */
    double rate;      /* messages a second at random times (open loop); 0: closed loop */
    int window;       /* most messages under way */
    int connections;  /* of the backend, for pushes */
    int active;       /* only this many clients take part, the first ones */
    size_t size;      /* bytes of a message */
    uint64_t delay;   /* nanoseconds that the backend takes to answer */
    int batch;        /* SEND: clients that one request reaches */
    bool lines;       /* SEND: each of them in a line of its own */
    double beside;    /* messages a second that clients send beside publishes (open loop) */
    bool misdirect;   /* pushes go to the port after that in the client's ws_uri */

    /* State. */
    bool on;           /* messages are counted */
    bool starting;     /* further messages are started */
    uint64_t begin;    /* times: the start, */
    uint64_t due;      /* when the next message of an open loop is due, */
    uint64_t beside_due; /* when the next one beside publishes is, */
    uint64_t end;      /* when no more messages are started, */
    uint64_t progress; /* and when the last message made a step */

    /* Results. */
    uint64_t idle_time, turns, idle_turns;
    uint64_t started, finished; /* finished: of a publish, each of its frames counts */
    uint64_t lost, reordered, unexpected, corrupted, refused, broken;
};
extern struct run run;

/* What a message waits for. It is finished when it waits for nothing more. */
enum { WAIT_FRAME = 1, WAIT_RESPONSE = 2, WAIT_BACKEND = 4 };

/* One message under way, from its start to the last thing that it waits for. */
struct slot {
    enum workload workload;         /* MESSAGE beside publishes, else that of the run */
    uint64_t begun, pushed, answered; /* times */
    uint32_t sequence;                /* number of the message among those of its client in this direction */
    int client;                     /* of a publish: the first that it reaches */
    int waits;                        /* WAIT_ flags; 0: free */
    bool overtaken;                   /* a push that began after this one was answered has arrived before it */
};
extern struct slot slots[MAX_SLOTS];

/* The latencies of the run's own messages, and of those beside publishes. */
enum { OWN, BESIDE, HISTOGRAMS };
void record_latency(int histogram, uint64_t nanoseconds);
void finish_step(int slot, int wait); /* the message in `slot` no longer waits for `wait` */
void prepare_run(char *options);      /* KEY=VALUE pairs, separated by spaces */
void perform_run(void);               /* and print its results */

/* ------------------------------------------------------------------ payload.c */

/* Prepare payloads of up to `size` bytes. */
void make_filler(size_t size);
/* The text of a payload behind its head, from byte 0 on, and the same as a client masks it. */
extern char *filler, *masked_filler;
extern const unsigned char MASK[4];

void write_payload_head(char *to, int slot);
/* Return the slot of a payload that waits for `wait`; -1 if it was not sent or was damaged, which is counted. */
int find_slot(const char *payload, size_t length, int wait);

/* ------------------------------------------------------------------ connection.c: sockets and events */

struct buffer {
    char *data;
    size_t length, capacity;
};

enum kind { COMMANDS, LISTENER, CLIENT, BACKEND, PUSHER };

struct connection {
    enum kind kind;
    int fd;
    int client;          /* CLIENT: its number */
    int slot;            /* PUSHER: the push that is under way on it; -1: none */
    int port;            /* PUSHER: which of the control ports */
    unsigned generation; /* tells connections apart that used this memory one after the other */
    bool dropped;
    bool opened;         /* CLIENT: the handshake is done */
    bool closing;        /* CLIENT: it has sent a Close frame */
    struct buffer in, out, message;
    struct connection *next; /* in the list of the dropped, of the free or of the idle pushers */
};

void open_epoll(void);
struct connection *watch(enum kind kind, int fd);
struct connection *dial(enum kind kind, const struct sockaddr_in *address);
void drop(struct connection *connection);
/* Send what fits; the rest follows as the socket takes it. */
void transmit(struct connection *connection, struct iovec *pieces, int count);
void transmit_bytes(struct connection *connection, const void *data, size_t length);
void append(struct buffer *buffer, const void *data, size_t length);
/* Handle all events that are there; wait for one at most `timeout` milliseconds (-1: for ever). */
void handle_events(int timeout);

/* ------------------------------------------------------------------ client.c: WebSocket clients */

struct client {
    struct connection *connection;
    char id[96];              /* path of its ws_uri */
    int id_length;
    int port;                 /* which of the control ports its ws_uri names */
    int next_in_bucket;       /* of the table of ids; -1: none */
    uint32_t sent, received_by_backend, pushed; /* numbers of the next message: of the client, at the backend, of a push */
    int under_way;
    uint32_t published;       /* number of the next publish that may arrive */
    bool posted;              /* the backend has heard that it connected, */
    bool ended;               /* and that it disconnected */
};
extern struct client *clients;
extern int opened_clients, lost_clients;

void open_clients(int number);
void connect_client(int number);
void send_message(int slot);
void lose_client(struct connection *connection);
/* Finish the message of a client that connected and disconnected, if both ends know of it. */
void finish_if_disconnected(int number);

/* ------------------------------------------------------------------ pusher.c: the backend's pushes */

void compile_push(size_t size);
void open_pushers(int number);
void reset_pushes(void);
bool pusher_is_idle_for(int client); /* a push to it need not wait for a connection */
void push(int slot);
void push_when_possible(int slot);
struct connection *take_idle_pusher(int slot);
char *write_number(char *to, int number); /* five digits; return the end */
void lose_pusher(struct connection *connection);
/* A push of `slot` has arrived: it may not overtake one that was answered before it began. */
void check_order(int slot);

/* ------------------------------------------------------------------ publisher.c: one request that reaches many clients

 * One such request is under way at a time.
 */
void reset_publishes(void);
bool publish_is_under_way(void);
void publish(int slot);
void receive_published(int slot, int client);
uint64_t missing_frames(void); /* of the publish that is under way */

/* ------------------------------------------------------------------ backend.c: the backend's HTTP server */

/* The head of a request or response. */
struct head {
    size_t length, body;    /* bytes of the head, and of the body */
    const char *uri;        /* value of Ws-Uri, or NULL */
    size_t uri_length;
    bool closes;            /* Connection: close */
};
bool read_head(const char *data, size_t length, struct head *head);

void listen_as_backend(int port);
void reset_responses(void);
void send_due_responses(uint64_t time);

/* ------------------------------------------------------------------ reading
 *
 * Each of these takes one unit from the bytes that arrived and returns its length. If it is not complete they return 0,
 * with the length that it will have in `need` if that is known.
 */
size_t take_handshake(struct connection *connection, const char *data, size_t length);
size_t take_frame(struct connection *connection, const char *data, size_t length, size_t *need);
size_t take_response(struct connection *connection, const char *data, size_t length, size_t *need);
size_t take_request(struct connection *connection, const char *data, size_t length, size_t *need);

#endif
