import { mock } from "node:test";

import { ReconnectingWebSocket } from "../index.js";
import { FakeSocket } from "./fake-socket.js";

/** Half of the limit of each delay: `Math.random` always returns 0.5. */
export const FIRST_DELAY = 500;

/** Begin a test without sockets, with a clock that stands still. */
export function begin() {
  FakeSocket.all.length = 0;
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  mock.method(Math, "random", () => 0.5);
}

export function end() {
  mock.timers.reset();
  mock.restoreAll();
}

/** Let milliseconds pass, and then all promises that are ready settle. */
export async function pass(milliseconds = 0) {
  mock.timers.tick(milliseconds);
  await new Promise(setImmediate);
}

/** Return a client that has begun to connect, and its events as [type, event]. */
export async function connecting(options = {}, url = "ws://gateway/") {
  const client = new ReconnectingWebSocket(url, { WebSocket: FakeSocket, ...options });
  const events = [];
  for (const type of ["open", "message", "close", "reconnecting", "queuefull"]) {
    client.addEventListener(type, (event) => events.push([type, event]));
  }
  await pass();
  return { client, events, types: () => events.map(([type]) => type), last: () => events.at(-1)[1] };
}

/** The same, with an open connection. */
export async function opened(options = {}) {
  const rig = await connecting(options);
  FakeSocket.last.opens();
  return rig;
}

/** Let the next attempt begin and succeed, however long the wait for it. */
export async function reconnect() {
  await pass(60_000);
  FakeSocket.last.opens();
}
