import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { runInNewContext } from "node:vm";

import { QueueFullError } from "../index.js";
import { FakeSocket } from "./fake-socket.js";
import { begin, connecting, end, opened, pass, reconnect } from "./rig.js";

beforeEach(begin);
afterEach(end);

const OVERHEAD = 64;

test("what is sent while there is no connection is sent by the next one, in order", async () => {
  const { client } = await connecting();
  client.send("a");
  FakeSocket.last.ends();
  client.send("b");
  assert.equal(client.pending, 2);
  await reconnect();
  client.send("c");
  assert.deepEqual(FakeSocket.last.sent, ["a", "b", "c"]);
  assert.equal(client.pending, 0);
});

test("what an open listener sends comes after the queue", async () => {
  const { client } = await connecting();
  client.addEventListener("open", () => client.send("c"));
  client.send("a");
  client.send("b");
  FakeSocket.last.opens();
  assert.deepEqual(FakeSocket.last.sent, ["a", "b", "c"]);
});

test("nothing is handed to a socket that is closing", async () => {
  const { client } = await opened();
  FakeSocket.last.readyState = 2;
  client.send("a");
  assert.equal(client.readyState, 0);
  assert.deepEqual(FakeSocket.last.sent, []);
  FakeSocket.last.ends(1001);
  await reconnect();
  assert.deepEqual(FakeSocket.last.sent, ["a"]);
});

test("what was still in the socket's buffer is sent again, a message of which a part has left included", async () => {
  const { client, events } = await opened();
  FakeSocket.last.drains = false;
  for (const text of ["left", "half", "none", ""]) client.send(text);
  FakeSocket.last.bufferedAmount = 6;
  assert.equal(client.pending, 3);
  FakeSocket.last.ends();
  assert.deepEqual(events[1][1].pending, ["half", "none", ""]);
  client.send("new");
  await reconnect();
  assert.deepEqual(FakeSocket.last.sent, ["half", "none", "", "new"]);
  assert.equal(client.pending, 0);
});

test("what a connection that is given up still has in its buffer is sent by it, and not again", async () => {
  const { client, events } = await opened({ heartbeat: { interval: 100, timeout: 50 } });
  FakeSocket.last.drains = false;
  for (const text of ["left", "kept"]) client.send(text);
  FakeSocket.last.bufferedAmount = 4;
  await pass(100);
  await pass(50);
  assert.deepEqual([events[1][1].reason, events[1][1].pending], ["heartbeat timeout", []]);
  assert.deepEqual(FakeSocket.last.closed, { code: 3008, reason: "heartbeat timeout" }, "after what is in its buffer");
  client.send("new");
  await reconnect();
  assert.deepEqual(FakeSocket.last.sent, ["new"]);
});

test("bytes are counted as UTF-8", async () => {
  const { client } = await opened();
  FakeSocket.last.drains = false;
  client.send("grüße");
  client.send("🎉");
  FakeSocket.last.bufferedAmount = 4;
  assert.equal(client.pending, 1);
});

test("a ping in the buffer makes no message be sent twice", async () => {
  const { client } = await opened({ heartbeat: { interval: 100 } });
  FakeSocket.last.drains = false;
  client.send("abcd");
  await pass(100);
  assert.deepEqual(FakeSocket.last.sent, ["abcd", "ping"]);
  FakeSocket.last.bufferedAmount = 4;
  assert.equal(client.pending, 0);
});

test("a message that does not fit is refused, told and thrown", async () => {
  const { client, types, last } = await connecting({ maxPending: 2 * (OVERHEAD + 3) });
  client.send("one");
  client.send("two");
  assert.throws(() => client.send("x"), (error) => error instanceof QueueFullError && error.name === "QueueFullError");
  assert.deepEqual(types(), ["queuefull"]);
  assert.equal(last().data, "x");
  FakeSocket.last.opens();
  client.send("x");
  assert.deepEqual(FakeSocket.last.sent, ["one", "two", "x"]);
});

test("a refused message is told before the error, in a listener too", async () => {
  const { client, types } = await connecting({ maxPending: 1 });
  client.addEventListener("open", () => {
    client.send("one");
    assert.throws(() => client.send("two"), QueueFullError);
    assert.equal(types().at(-1), "queuefull");
  });
  FakeSocket.last.drains = false;
  FakeSocket.last.opens();
  assert.deepEqual(types(), ["open", "queuefull"]);
});

test("one message always fits", async () => {
  const { client } = await connecting({ maxPending: 10 });
  client.send("longer than that");
  assert.throws(() => client.send(""), QueueFullError);
  assert.equal(client.pending, 1);
});

test("what a slow network holds in the socket's buffer counts, too", async () => {
  const { client } = await opened({ maxPending: 2 * (OVERHEAD + 1) });
  FakeSocket.last.drains = false;
  client.send("a");
  client.send("b");
  assert.throws(() => client.send("c"), QueueFullError);
  FakeSocket.last.bufferedAmount = 1;
  client.send("c");
  assert.deepEqual(FakeSocket.last.sent, ["a", "b", "c"]);
});

test("binary data is copied, and what is no data becomes text", async () => {
  const { client } = await connecting();
  const bytes = new Uint8Array([0, 1, 2, 3]);
  const blob = new Blob(["blob"]);
  const views = [bytes.subarray(1, 3), new DataView(bytes.buffer, 2), Buffer.from("buffer")];
  for (const data of [bytes.buffer, ...views, blob, 7, null]) client.send(data);
  bytes.fill(9);
  FakeSocket.last.send = (data) => FakeSocket.last.sent.push(data);
  FakeSocket.last.opens();
  const [buffer, view, dataView, nodeBuffer, ...rest] = FakeSocket.last.sent;
  assert.deepEqual([...new Uint8Array(buffer)], [0, 1, 2, 3]);
  assert.deepEqual([...view], [1, 2]);
  assert.deepEqual([...dataView], [2, 3]);
  assert.equal(Buffer.from(nodeBuffer).toString(), "buffer");
  assert.deepEqual(rest, [blob, "7", "null"]);
  assert.equal(client.pending, 0, "the sizes are known");
});

test("binary data may come from another realm", async () => {
  const { client } = await opened();
  const other = runInNewContext("const bytes = new Uint8Array([1, 2, 3]); [bytes.buffer, bytes.subarray(1)]");
  for (const data of other) client.send(data);
  client.send(new File(["file"], "name"));
  const [buffer, view, file] = FakeSocket.last.sent;
  assert.deepEqual([buffer, view], [new Uint8Array([1, 2, 3]).buffer, new Uint8Array([2, 3])]);
  assert.equal(file.size, 4);
});

test("a client that has ended takes nothing, and returns what it could not send", async () => {
  const { client, last } = await connecting();
  client.send("a");
  client.send(new Uint8Array([1]));
  FakeSocket.last.ends(4403, "forbidden");
  assert.equal(last().willReconnect, false);
  assert.deepEqual(last().pending, ["a", new Uint8Array([1])]);
  assert.throws(() => client.send("b"), /closed/);
  assert.equal(client.pending, 0);
});

// ---- Acknowledgements

test("with acknowledgements, what was not acknowledged is sent again, in order", async () => {
  const { client } = await opened({ acknowledgements: true });
  for (const text of ["a", "b", "c"]) client.send(text);
  client.acknowledge();
  assert.equal(client.pending, 2);
  FakeSocket.last.ends();
  client.send("d");
  await reconnect();
  assert.deepEqual(FakeSocket.last.sent, ["b", "c", "d"]);
  client.acknowledge(2);
  FakeSocket.last.ends();
  await reconnect();
  assert.deepEqual(FakeSocket.last.sent, ["d"]);
});

test("with acknowledgements, a connection that is given up sends no more, if its socket can do that", async () => {
  class Terminable extends FakeSocket {
    terminate() {
      this.terminated = true;
    }
  }
  for (const WebSocket of [Terminable, FakeSocket]) {
    const { client } = await opened({ WebSocket, acknowledgements: true, heartbeat: { interval: 100, timeout: 50 } });
    const socket = FakeSocket.last;
    client.send("a");
    await pass(100);
    await pass(50);
    assert.deepEqual([socket.terminated, socket.closed?.code], WebSocket === Terminable ? [true, undefined] : [undefined, 3008]);
    await reconnect();
    assert.deepEqual(FakeSocket.last.sent, ["a"]);
    client.close();
    FakeSocket.last.ends(1000);
  }
});

test("only what this connection has sent can be acknowledged", async () => {
  const { client } = await opened({ acknowledgements: true });
  client.send("a");
  FakeSocket.last.ends();
  client.send("b");
  client.acknowledge(9);
  assert.equal(client.pending, 2);
  await reconnect();
  client.acknowledge(9);
  assert.equal(client.pending, 0);
});

test("a late acknowledgement concerns the connection of its event only", async () => {
  const { client, events } = await opened({ acknowledgements: true });
  const receive = () => {
    FakeSocket.last.receives("arrived");
    return events.at(-1)[1];
  };
  for (const text of ["a", "b", "c", "d"]) client.send(text);
  const [early, late] = [receive(), receive()];
  await pass();
  early.acknowledge(2);
  assert.equal(client.pending, 2);
  FakeSocket.last.ends();
  late.acknowledge();
  assert.equal(client.pending, 2, "the connection is over");
  await reconnect();
  late.acknowledge();
  assert.deepEqual([client.pending, FakeSocket.last.sent], [2, ["c", "d"]], "this one has not got an answer yet");
  const last = receive();
  for (const count of [0, -1, NaN]) last.acknowledge(count);
  assert.equal(client.pending, 2);
  last.acknowledge(9);
  client.send("e");
  assert.equal(client.pending, 1, "nothing is acknowledged in advance");
  client.close();
  last.acknowledge();
  assert.equal(client.pending, 0, "until the end of the connection");
  FakeSocket.last.ends(1000);
  last.acknowledge();
  assert.deepEqual(events.at(-1)[1].pending, []);
});

test("without the option, an acknowledgement changes nothing", async () => {
  const { client } = await opened();
  FakeSocket.last.drains = false;
  client.send("a");
  client.acknowledge();
  assert.equal(client.pending, 1);
});

test("what was not acknowledged takes space in the queue", async () => {
  const { client } = await opened({ acknowledgements: true, maxPending: 2 * (OVERHEAD + 1) });
  client.send("a");
  client.send("b");
  assert.throws(() => client.send("c"), QueueFullError);
  client.acknowledge();
  client.send("c");
});
