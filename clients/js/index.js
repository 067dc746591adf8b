/**
 * A WebSocket that reconnects, and that keeps the messages which it could not send.
 *
 * A message stays in a queue until it has left the socket, or until it is acknowledged with the option
 * `acknowledgements`. A new connection begins with what is still in the queue, in order.
 */

const [CONNECTING, OPEN, CLOSING, CLOSED] = [0, 1, 2, 3];
const MESSAGE_OVERHEAD = 64;
const MAX_REASON = 123;
/** The timeout of the heartbeat doubles so many times at most. */
const MAX_DOUBLINGS = 5;
const UTF8 = new TextEncoder();
const FINAL_CODES = new Set([1000, 1002, 1003, 1007, 1008, 1009, 1010]);

const DEFAULTS = {
  protocols: [],
  minDelay: 1_000,
  maxDelay: 30_000,
  stableAfter: 10_000,
  connectTimeout: 20_000,
  maxPending: 1_048_576,
  acknowledgements: false,
  shouldReconnect,
};

const HEARTBEAT_DEFAULTS = { ping: "ping", pong: "pong", interval: 25_000, timeout: 10_000 };

/** Whether a connection that ended with this code may be tried again: neither side had meant it to end for good. */
export function shouldReconnect({ code }) {
  return code < 3000 && !FINAL_CODES.has(code);
}

/** Thrown by `send` when `maxPending` bytes wait already. */
export class QueueFullError extends Error {
  name = "QueueFullError";
}

export class ReconnectingWebSocket extends EventTarget {
  #url;
  #options;
  #heartbeat;
  #binaryType;
  /** Messages that are not known to have left, oldest first. `end`: see `#transmit`; undefined if it was not sent. */
  #queue = [];
  #queuedBytes = 0;
  /** The connection, or the attempt to open one; undefined between two of them. */
  #connection;
  /** Attempts since the last connection that lasted. */
  #attempt = 0;
  /** Connections in a row that ended with a heartbeat timeout. */
  #unanswered = 0;
  #ended = false;
  /** The event that is being dispatched, and those that follow. */
  #events = [];
  /** There is one timer: of the attempt to connect, of the heartbeat, or of the wait for the next attempt. */
  #timer;

  constructor(url, options = {}) {
    super();
    this.#url = url;
    this.#options = withDefaults(options, { WebSocket: globalThis.WebSocket, ...DEFAULTS });
    this.#heartbeat = options.heartbeat && withDefaults(options.heartbeat, HEARTBEAT_DEFAULTS);
    this.#binaryType = options.binaryType;
    if (!this.#options.WebSocket) throw new TypeError("There is no global WebSocket: use the option WebSocket");
    globalThis.addEventListener?.("online", this.#onOnline);
    this.#connect();
  }

  get readyState() {
    if (this.#ended) return this.#connection ? CLOSING : CLOSED;
    return this.#isOpen() ? OPEN : CONNECTING;
  }

  get protocol() {
    return this.#connection?.socket?.protocol ?? "";
  }

  /** The number of messages that are not known to have left, or were not acknowledged. */
  get pending() {
    this.#dropSent();
    return this.#queue.length;
  }

  get binaryType() {
    return this.#connection?.socket?.binaryType ?? this.#binaryType;
  }

  set binaryType(type) {
    this.#binaryType = type;
    if (this.#connection?.socket) this.#connection.socket.binaryType = type;
  }

  send(data) {
    if (this.#ended) throw new Error("This client was closed");
    this.#dropSent();
    const copy = copyOf(data);
    const message = { data: copy, size: sizeOf(copy), end: undefined };
    const queuedBytes = this.#queuedBytes + message.size + MESSAGE_OVERHEAD;
    if (this.#queue.length > 0 && queuedBytes > this.#options.maxPending) {
      // Before the error, even in a listener: not by #emit.
      this.dispatchEvent(Object.assign(new Event("queuefull"), { data }));
      throw new QueueFullError(`${this.#queue.length} messages wait already`);
    }
    this.#queue.push(message);
    this.#queuedBytes = queuedBytes;
    if (this.#isOpen()) this.#transmit(message);
  }

  /** Drop the oldest `count` messages that the present connection has sent: they have arrived. */
  acknowledge(count = 1) {
    if (this.#options.acknowledgements) this.#dropOldest(count);
  }

  close(code = 1000, reason = "") {
    // Not every socket checks them, and none that is not there yet.
    if (code !== 1000 && !(Number.isInteger(code) && code >= 3000 && code <= 4999)) {
      throw new DOMException(`The close code ${code} is neither 1000 nor from 3000 to 4999`, "InvalidAccessError");
    }
    if (sizeOf(String(reason)) > MAX_REASON) {
      throw new DOMException(`The reason is longer than ${MAX_REASON} bytes`, "SyntaxError");
    }
    if (this.#ended) return;
    const { socket, openedAt } = this.#connection ?? {};
    if (openedAt === undefined) {
      this.#ended = true;
      this.#lost({ code, reason, wasClean: true });
      socket?.close();
    } else {
      socket.close(code, reason);
      this.#ended = true;
      clearTimeout(this.#timer);
    }
  }

  // ---- The life of a connection

  async #connect() {
    // `handed`: bytes that the socket got so far.
    const connection = { socket: undefined, openedAt: undefined, handed: 0, pinged: false };
    this.#connection = connection;
    this.#after(this.#options.connectTimeout, () => this.#abandon("connect timeout"));
    let parameters, error;
    try {
      parameters = await Promise.all([this.#url, this.#options.protocols].map(valueOf));
    } catch (caught) {
      error = caught;
    }
    if (connection !== this.#connection) return;
    if (parameters) this.#open(connection, ...parameters);
    else this.#lost({ code: 1006, reason: "", wasClean: false, error });
  }

  #open(connection, url, protocols) {
    let socket, error;
    try {
      socket = new this.#options.WebSocket(url, protocols);
    } catch (caught) {
      // It would not accept them the next time either.
      this.#ended = true;
      this.#lost({ code: 1006, reason: "", wasClean: false, error: caught });
      return;
    }
    connection.socket = socket;
    if (this.#binaryType) socket.binaryType = this.#binaryType;
    // A connection that was abandoned may have further events.
    const on = (type, listener) =>
      socket.addEventListener(type, (event) => connection === this.#connection && listener(event));
    on("open", () => this.#opened(connection));
    on("message", (event) => this.#received(event));
    on("error", (event) => {
      error = event.error;
      // Node 20 and 22 have no close event for a connection that failed to open.
      if (connection.openedAt === undefined) this.#after(0, () => this.#abandon("connection failed", error));
    });
    on("close", ({ code, reason, wasClean }) => this.#lost({ code, reason, wasClean, error }));
  }

  #opened(connection) {
    connection.openedAt = Date.now();
    this.#beat();
    this.#queue.forEach((message) => this.#isOpen() && this.#transmit(message));
    this.#emit("open");
  }

  #received({ data, origin }) {
    if (this.#connection.pinged) this.#unanswered = 0;
    this.#beat();
    if (this.#heartbeat && data === this.#heartbeat.pong) return;
    const connection = this.#connection;
    // Another connection may have sent the same messages again. What it has sent was not acknowledged by this event.
    const acknowledge = (count) => {
      if (connection === this.#connection) this.acknowledge(count);
    };
    this.dispatchEvent(Object.assign(new MessageEvent("message", { data, origin }), { acknowledge }));
  }

  /** Wait for silence, then for the answer to a ping. Any message ends both. */
  #beat() {
    clearTimeout(this.#timer);
    if (!this.#heartbeat || this.#ended) return;
    const { ping, interval } = this.#heartbeat;
    this.#after(interval, () => {
      this.#connection.socket.send(ping);
      this.#connection.handed += sizeOf(ping);
      this.#connection.pinged = true;
      this.#awaitAnswer(this.#connection.handed);
    });
  }

  /**
   * The ping, whose last byte is `end`, waits behind all that was sent before: time in which some of that leaves does
   * not count. Some sockets count a large message until all of it has left: each timeout in a row allows twice the time.
   */
  #awaitAnswer(end) {
    const left = this.#left();
    this.#after(this.#heartbeat.timeout * 2 ** this.#unanswered, () => {
      if (left < end && this.#left() > left) return this.#awaitAnswer(end);
      this.#unanswered = Math.min(this.#unanswered + 1, MAX_DOUBLINGS);
      this.#abandon("heartbeat timeout");
    });
  }

  /** Go on without waiting for the end of a connection, which can take minutes if nobody answers. */
  #abandon(reason, error) {
    const { socket } = this.#connection;
    const { acknowledgements } = this.#options;
    // The socket goes on sending what it has got. Sent again, it could arrive twice: so it counts as sent.
    if (!acknowledgements) this.#dropOldest(Infinity);
    this.#lost({ code: 1006, reason, wasClean: false, error });
    // The next connection sends it again, so nothing more of it should leave here. Only the sockets of ws can do that.
    if (acknowledgements && socket?.terminate) socket.terminate();
    else socket?.close(3008, reason);
  }

  #lost(close) {
    this.#dropSent();
    clearTimeout(this.#timer);
    const { stableAfter, shouldReconnect } = this.#options;
    if (Date.now() - this.#connection?.openedAt >= stableAfter) this.#attempt = 0;
    this.#connection = undefined;
    for (const message of this.#queue) message.end = undefined;
    const details = { ...close, attempt: this.#attempt };
    try {
      this.#ended ||= !shouldReconnect(details);
    } catch (error) {
      this.#ended = true;
      details.error = error;
    }
    const willReconnect = !this.#ended;
    const pending = this.#queue.map(({ data }) => data);
    if (this.#ended) {
      this.#queue = [];
      globalThis.removeEventListener?.("online", this.#onOnline);
    }
    this.#emit("close", { ...details, willReconnect, pending });
    if (!this.#ended) this.#wait(close.code);
  }

  /** Wait for the next attempt: exponential back-off with full jitter; longer if the server is overloaded (1013). */
  #wait(code) {
    const { minDelay, maxDelay } = this.#options;
    const limit = Math.min(maxDelay, minDelay * 2 ** this.#attempt);
    const delay = code === 1013 ? (maxDelay * (1 + Math.random())) / 2 : limit * Math.random();
    this.#attempt++;
    this.#after(delay, () => this.#connect());
    this.#emit("reconnecting", { delay, attempt: this.#attempt });
  }

  #onOnline = () => {
    if (!this.#connection) this.#connect();
  };

  // ---- The queue

  #isOpen() {
    return this.#connection?.openedAt !== undefined && this.#connection.socket.readyState === OPEN && !this.#ended;
  }

  /** Hand a message to the socket. Its `end` is the number of bytes that the socket has got with it. */
  #transmit(message) {
    const { socket } = this.#connection;
    socket.send(message.data);
    message.end = this.#connection.handed += message.size;
  }

  /** The number of bytes that have left the socket. */
  #left() {
    return this.#connection.handed - this.#connection.socket.bufferedAmount;
  }

  /** Drop what has left: all but the last `bufferedAmount` bytes. A part of a message does not count. */
  #dropSent() {
    if (!this.#connection?.socket || this.#options.acknowledgements) return;
    const left = this.#left();
    while (this.#queue[0]?.end <= left) this.#drop();
  }

  /** Drop the oldest `count` messages, but none that the present connection has not sent. */
  #dropOldest(count) {
    for (; count > 0 && this.#queue[0]?.end !== undefined; count--) this.#drop();
  }

  #drop() {
    this.#queuedBytes -= this.#queue.shift().size + MESSAGE_OVERHEAD;
  }

  #after(delay, action) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, delay);
  }

  /** Dispatch an event, after the present one if a listener causes it: all listeners see the same order. */
  #emit(type, details) {
    this.#events.push(Object.assign(new Event(type), details));
    if (this.#events.length > 1) return;
    for (; this.#events.length > 0; this.#events.shift()) this.dispatchEvent(this.#events[0]);
  }
}

/** Return `options`, with the default of each that is undefined. */
function withDefaults(options, defaults) {
  const chosen = Object.entries(options).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(chosen) };
}

/** Return a value, or what the function returns. Its errors are rejections, so they come after the constructor. */
async function valueOf(value) {
  return typeof value === "function" ? value() : value;
}

/** Return what a WebSocket would send. Binary data is copied, as its owner may change it. */
function copyOf(data) {
  // Not `instanceof`: they may be from another realm, such as a frame.
  const kind = Object.prototype.toString.call(data);
  if (kind === "[object Blob]" || kind === "[object File]") return data;
  if (kind === "[object ArrayBuffer]") return new Uint8Array(data).slice().buffer;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  return String(data);
}

/** Return the size in bytes of what `copyOf` returned. */
function sizeOf(data) {
  return typeof data === "string" ? UTF8.encode(data).length : (data.byteLength ?? data.size);
}
