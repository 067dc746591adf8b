/** What can be sent. Anything else is converted to a string, as a WebSocket does. */
export type Data = string | ArrayBuffer | ArrayBufferView | Blob;

/** A value, or a function that returns it and is called before each attempt to connect. */
export type Provided<T> = T | (() => T | PromiseLike<T>);

/** The part of the standard `WebSocket` that is used. */
export interface WebSocketLike {
  readonly readyState: number;
  readonly bufferedAmount: number;
  readonly protocol: string;
  binaryType: string;
  send(data: any): void;
  close(code?: number, reason?: string): void;
  /** That of the package `ws`. */
  terminate?(): void;
  addEventListener(type: any, listener: (event: any) => void): void;
}

export interface Heartbeat {
  /** The text that is sent after a silence. Default: `ping`. */
  ping?: string;
  /** The answer, which does not become a `message` event. Any other message counts as an answer, too. Default: `pong`. */
  pong?: string;
  /** Milliseconds without a message, after which `ping` is sent. Default: 25,000. */
  interval?: number;
  /**
   * Milliseconds to wait for the answer while nothing leaves the socket. They double with each connection in a row that
   * ends without one, up to 32 times. Default: 10,000.
   */
  timeout?: number;
}

/** How a connection, or the attempt to open one, ended. */
export interface ConnectionEnd {
  /** The close code; 1006 without a closing handshake. */
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
  /** What failed: in `url`, `protocols` or `shouldReconnect` or, except in browsers, in the socket. */
  readonly error?: unknown;
  /** The number of attempts since the last connection that lasted for `stableAfter`; 0 for that connection itself. */
  readonly attempt: number;
}

export interface Options {
  /** Subprotocols to offer. Default: none. */
  protocols?: Provided<string | string[]>;
  /** The class of the sockets. Default: the global `WebSocket`. */
  WebSocket?: new (url: string, protocols: string | string[]) => WebSocketLike;
  /** Passed on to each socket. */
  binaryType?: string;
  /** Upper limit of the first delay, in milliseconds. It doubles with each attempt. Default: 1,000. */
  minDelay?: number;
  /** Upper limit of all delays, in milliseconds. Default: 30,000. */
  maxDelay?: number;
  /** Milliseconds that a connection has to last before the delays begin anew. Default: 10,000. */
  stableAfter?: number;
  /** Limit for an attempt to connect, in milliseconds. Default: 20,000. */
  connectTimeout?: number;
  /** Bytes of messages that may wait, each counted with 64 bytes of overhead. One message always fits. Default: 1 MiB. */
  maxPending?: number;
  /** Keep each message until `acknowledge` is called for it. Default: false. */
  acknowledgements?: boolean;
  /** Notice connections on which nobody answers; `true` for the defaults. Default: none. */
  heartbeat?: Heartbeat | boolean;
  /** Whether to connect again; no promise. An error ends the client. Default: the exported function `shouldReconnect`. */
  shouldReconnect?: (end: ConnectionEnd) => boolean;
}

export interface ConnectionEndEvent extends Event, ConnectionEnd {
  /** False: this was the end of the client. */
  readonly willReconnect: boolean;
  /** The messages that did not leave, or were not acknowledged. They are sent again if `willReconnect` is true. */
  readonly pending: readonly (string | ArrayBuffer | Uint8Array | Blob)[];
}

export interface ReceivedEvent extends MessageEvent {
  /**
   * As the method of the client, but after the end of the connection that has received this message, it does nothing.
   * So it may be called at any time, such as after an `await`.
   */
  acknowledge(count?: number): void;
}

export interface ReconnectingEvent extends Event {
  /** Milliseconds until the next attempt. */
  readonly delay: number;
  /** The number of this attempt, counted as in `ConnectionEnd`. */
  readonly attempt: number;
}

export interface QueueFullEvent extends Event {
  /** The message that was not accepted. */
  readonly data: Data;
}

export interface EventMap {
  /** A connection is open, and the queue was handed to it. */
  open: Event;
  message: ReceivedEvent;
  /** A connection, or the attempt to open one, has ended. */
  close: ConnectionEndEvent;
  /** The wait for the next attempt begins. */
  reconnecting: ReconnectingEvent;
  /** `send` is about to throw a `QueueFullError`. */
  queuefull: QueueFullEvent;
}

export type Listener<E> = ((event: E) => void) | { handleEvent(event: E): void };

/** Whether a connection that ended with this code may be tried again. */
export function shouldReconnect(end: Pick<ConnectionEnd, "code">): boolean;

/** Thrown by `send` when `maxPending` bytes wait already. The message was not accepted. */
export class QueueFullError extends Error {}

/** A WebSocket that reconnects, and that keeps the messages which it could not send. */
export class ReconnectingWebSocket extends EventTarget {
  constructor(url: Provided<string | URL>, options?: Options);

  /** 0: connecting, or waiting to do so; 1: open; 2: closing for good; 3: closed for good. */
  readonly readyState: number;
  /** The subprotocol of the present connection; empty without one. */
  readonly protocol: string;
  /** The number of messages that are not known to have left or, with `acknowledgements`, were not acknowledged. */
  readonly pending: number;
  binaryType: string | undefined;

  /**
   * Send a message, now or on a later connection. Binary data is copied.
   *
   * Throws a `QueueFullError`, or an `Error` after the end of the client.
   */
  send(data: Data): void;

  /**
   * With `acknowledgements`: the oldest `count` messages that the present connection has sent have arrived. Default:
   * one. Without a connection, or for more than it has sent, this does nothing.
   *
   * Use that of the `message` event which says so. This one is safe only in its listener, before any `await`: later,
   * there may be another connection, whose messages have not arrived yet.
   */
  acknowledge(count?: number): void;

  /**
   * End for good. Default: 1000.
   *
   * Throws a `DOMException` if the code is neither 1000 nor from 3000 to 4999, or the reason longer than 123 bytes.
   */
  close(code?: number, reason?: string): void;

  addEventListener<T extends keyof EventMap>(
    type: T,
    listener: Listener<EventMap[T]> | null,
    options?: boolean | { capture?: boolean; once?: boolean; passive?: boolean; signal?: AbortSignal },
  ): void;

  removeEventListener<T extends keyof EventMap>(
    type: T,
    listener: Listener<EventMap[T]> | null,
    options?: boolean | { capture?: boolean },
  ): void;
}
