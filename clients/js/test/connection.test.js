import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { ReconnectingWebSocket, shouldReconnect } from "../index.js";
import { FakeSocket } from "./fake-socket.js";
import { begin, connecting, end, FIRST_DELAY, opened, pass, reconnect } from "./rig.js";

beforeEach(begin);
afterEach(end);

test("a client connects, receives and closes like a WebSocket", async () => {
  const { client, events, types } = await connecting({ protocols: ["v2", "v1"] });
  assert.deepEqual([FakeSocket.last.url, FakeSocket.last.protocols], ["ws://gateway/", ["v2", "v1"]]);
  assert.deepEqual([client.readyState, client.protocol], [0, ""]);
  FakeSocket.last.opens("v1");
  assert.deepEqual([client.readyState, client.protocol], [1, "v1"]);
  FakeSocket.last.receives("hello");
  assert.equal(events.at(-1)[1].data, "hello");
  client.close(4000, "done");
  assert.deepEqual(FakeSocket.last.closed, { code: 4000, reason: "done" });
  assert.equal(client.readyState, 2);
  FakeSocket.last.ends(4000, "done");
  assert.equal(client.readyState, 3);
  assert.deepEqual(types(), ["open", "message", "close"]);
  const { code, reason, wasClean, willReconnect, pending } = events.at(-1)[1];
  assert.deepEqual([code, reason, wasClean, willReconnect, pending], [4000, "done", true, false, []]);
});

test("a lost connection is replaced after a delay", async () => {
  const { events, types } = await opened();
  FakeSocket.last.ends(1006);
  assert.deepEqual(types(), ["open", "close", "reconnecting"]);
  assert.equal(events[1][1].willReconnect, true);
  assert.deepEqual([events[2][1].delay, events[2][1].attempt], [FIRST_DELAY, 1]);
  await pass(FIRST_DELAY - 1);
  assert.equal(FakeSocket.all.length, 1);
  await pass(1);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.opens();
  assert.deepEqual(types(), ["open", "close", "reconnecting", "open"]);
});

test("an option that is undefined has its default", async () => {
  const { last } = await opened({ minDelay: undefined, heartbeat: { interval: undefined } });
  await pass(25_000);
  assert.deepEqual(FakeSocket.last.sent, ["ping"]);
  FakeSocket.last.ends();
  assert.equal(last().delay, FIRST_DELAY);
});

test("the limit of the delay doubles with each attempt, up to the maximum", async () => {
  const { events, types } = await connecting({ minDelay: 100, maxDelay: 1000 });
  for (let attempt = 0; attempt < 6; attempt++) {
    FakeSocket.last.ends();
    await pass(1000);
  }
  const delays = events.filter(([type]) => type === "reconnecting").map(([, event]) => event.delay);
  assert.deepEqual(delays, [50, 100, 200, 400, 500, 500]);
  assert.ok(!types().includes("open"));
});

test("a delay is anything from nothing to its limit", async () => {
  for (const random of [0, 0.999]) {
    mock.method(Math, "random", () => random);
    const { client, last } = await opened();
    FakeSocket.last.ends();
    assert.equal(last().delay, random * 1000);
    client.close();
  }
});

test("only a connection that lasted makes the delays begin anew", async () => {
  const { last } = await opened({ stableAfter: 5000 });
  FakeSocket.last.ends();
  await pass(FIRST_DELAY);
  FakeSocket.last.opens();
  await pass(4999);
  FakeSocket.last.ends();
  assert.deepEqual([last().delay, last().attempt], [1000, 2]);
  await pass(1000);
  FakeSocket.last.opens();
  await pass(5000);
  FakeSocket.last.ends();
  assert.deepEqual([last().delay, last().attempt], [FIRST_DELAY, 1]);
});

for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 3999, 4000, 4401, 4999]) {
  test(`close code ${code} is final`, async () => {
    const { client, types, last } = await opened();
    FakeSocket.last.ends(code);
    assert.deepEqual(types(), ["open", "close"]);
    assert.equal(last().willReconnect, false);
    assert.equal(client.readyState, 3);
    await pass(100_000);
    assert.equal(FakeSocket.all.length, 1);
  });
}

for (const code of [1001, 1005, 1006, 1011, 1012, 1014]) {
  test(`close code ${code} is followed by another attempt`, async () => {
    const { last } = await opened();
    FakeSocket.last.ends(code);
    assert.equal(last().delay, FIRST_DELAY);
  });
}

test("an overloaded server (1013) is left alone for at least half of the maximum", async () => {
  for (const [random, delay] of [[0, 15_000], [0.5, 22_500]]) {
    mock.method(Math, "random", () => random);
    const { client, last } = await opened();
    FakeSocket.last.ends(1013);
    assert.equal(last().delay, delay);
    client.close();
  }
});

test("the application decides otherwise with shouldReconnect", async () => {
  const seen = [];
  const decide = (end) => {
    seen.push([end.code, end.reason, end.attempt]);
    return end.code === 4001 || (end.attempt < 1 && shouldReconnect(end));
  };
  const { last } = await opened({ shouldReconnect: decide });
  FakeSocket.last.ends(4001, "token expired");
  await pass(FIRST_DELAY);
  FakeSocket.last.ends(1006);
  assert.equal(last().willReconnect, false);
  assert.deepEqual(seen, [[4001, "token expired", 0], [1006, "", 1]]);
});

test("an error of shouldReconnect is final, and told", async () => {
  const fail = () => { throw new Error("of the application"); };
  const { client, types, last } = await opened({ shouldReconnect: fail });
  client.send("left");
  FakeSocket.last.ends(1006, "", new Error("of the socket"));
  assert.deepEqual(types(), ["open", "close"]);
  assert.deepEqual([last().code, last().willReconnect, last().error.message], [1006, false, "of the application"]);
  assert.equal(client.readyState, 3);
});

test("URL and subprotocols are asked for before each attempt", async () => {
  let tokens = 0;
  const url = async () => `ws://gateway/?access_token=${++tokens}`;
  const { events } = await connecting({ protocols: () => [`v${tokens}`] }, url);
  FakeSocket.last.ends();
  await pass(FIRST_DELAY);
  assert.deepEqual(FakeSocket.all.map((each) => [each.url, each.protocols]), [
    ["ws://gateway/?access_token=1", ["v1"]],
    ["ws://gateway/?access_token=2", ["v2"]],
  ]);
  assert.equal(events[0][1].error, undefined);
});

test("an error of the URL's function counts as a failed attempt", async () => {
  const results = [() => { throw new Error("sync"); }, () => Promise.reject(new Error("async")), () => "ws://gateway/"];
  const { events } = await connecting({}, () => results.shift()());
  await pass(FIRST_DELAY);
  await pass(2 * FIRST_DELAY);
  FakeSocket.last.opens();
  assert.deepEqual(events.map(([type, { error, delay }]) => [type, error?.message ?? delay]), [
    ["close", "sync"], ["reconnecting", FIRST_DELAY], ["close", "async"], ["reconnecting", 2 * FIRST_DELAY],
    ["open", undefined],
  ]);
});

test("an invalid URL is final, and the reason is told", async () => {
  const { client, types, last } = await connecting({}, "invalid");
  assert.deepEqual(types(), ["close"]);
  assert.equal(last().error.message, "invalid URL");
  assert.equal(client.readyState, 3);
});

test("the error of a socket is told with its end", async () => {
  const { events } = await connecting();
  FakeSocket.last.ends(1006, "", new Error("Unexpected server response: 403"));
  assert.equal(events[0][1].error.message, "Unexpected server response: 403");
});

test("a socket that fails without a close event counts as lost", async () => {
  const { client, types, last } = await connecting();
  FakeSocket.last.dispatchEvent(Object.assign(new Event("error"), { error: new Error("ECONNREFUSED") }));
  await pass();
  assert.deepEqual(types(), ["close", "reconnecting"]);
  client.close();
  assert.equal(last().willReconnect, false);
});

test("an attempt that takes too long is given up, and its late success ignored", async () => {
  const { types, last } = await connecting({ connectTimeout: 3000 });
  const slow = FakeSocket.last;
  await pass(3000);
  assert.deepEqual(types(), ["close", "reconnecting"]);
  assert.equal(slow.closed.reason, "connect timeout");
  slow.opens();
  slow.ends();
  assert.deepEqual(types(), ["close", "reconnecting"]);
  await pass(FIRST_DELAY);
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(last().attempt, 1);
});

test("a URL that comes too late opens no second connection", async () => {
  const resolve = [];
  const { types } = await connecting({ connectTimeout: 3000 }, () => new Promise((done) => resolve.push(done)));
  await pass(3000);
  await pass(FIRST_DELAY);
  resolve[1]("ws://second/");
  resolve[0]("ws://first/");
  await pass();
  assert.deepEqual(FakeSocket.all.map(({ url }) => url), ["ws://second/"]);
  assert.deepEqual(types(), ["close", "reconnecting"]);
});

test("the end of being offline ends the wait", async (context) => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  context.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  const { client } = await opened({ minDelay: 30_000 });
  page.dispatchEvent(new Event("online"));
  await pass();
  assert.equal(FakeSocket.all.length, 1, "an open connection is kept");
  FakeSocket.last.ends();
  page.dispatchEvent(new Event("online"));
  await pass();
  assert.equal(FakeSocket.all.length, 2);
  await pass(15_000);
  assert.equal(FakeSocket.all.length, 2, "the wait is over");
  FakeSocket.last.opens();
  client.close();
  FakeSocket.last.ends(1000);
  page.dispatchEvent(new Event("online"));
  await pass();
  assert.equal(FakeSocket.all.length, 2);
});

test("a silent connection is pinged, and kept if anything arrives", async () => {
  const { types } = await opened({ heartbeat: { interval: 1000, timeout: 200 } });
  const socket = FakeSocket.last;
  await pass(999);
  assert.deepEqual(socket.sent, []);
  await pass(1);
  assert.deepEqual(socket.sent, ["ping"]);
  await pass(199);
  socket.receives("pong");
  await pass(1000);
  assert.deepEqual(socket.sent, ["ping", "ping"]);
  socket.receives("news");
  await pass(999);
  assert.deepEqual(socket.sent, ["ping", "ping"]);
  assert.deepEqual(types(), ["open", "message"], "the answer is no message");
});

test("a connection on which nobody answers is replaced without waiting for its end", async () => {
  const { types, events } = await opened({ heartbeat: true });
  const dead = FakeSocket.last;
  await pass(25_000);
  await pass(10_000);
  assert.deepEqual(types(), ["open", "close", "reconnecting"]);
  assert.deepEqual([events[1][1].code, events[1][1].reason], [1006, "heartbeat timeout"]);
  assert.deepEqual(dead.closed, { code: 3008, reason: "heartbeat timeout" });
  await pass(FIRST_DELAY);
  FakeSocket.last.opens();
  dead.receives("late");
  dead.ends();
  assert.deepEqual(types(), ["open", "close", "reconnecting", "open"]);
});

test("a ping is not late while what was sent before it leaves", async () => {
  const { client, types } = await opened({ heartbeat: { interval: 1000, timeout: 200 } });
  const socket = FakeSocket.last;
  socket.drains = false;
  client.send("x".repeat(1000));
  await pass(1000);
  for (let left = 0; left < 5; left++) {
    socket.bufferedAmount -= 100;
    client.send("y".repeat(200));
    await pass(200);
  }
  assert.deepEqual(types(), ["open"], "more was sent than has left, but it makes progress");
  await pass(199);
  assert.deepEqual(types(), ["open"]);
  await pass(1);
  assert.deepEqual(types(), ["open", "close", "reconnecting"]);
});

test("once a ping has left, nothing that is sent later delays the timeout", async () => {
  const { client, types } = await opened({ heartbeat: { interval: 1000, timeout: 200 } });
  await pass(1000);
  client.send("to a network that takes it");
  await pass(199);
  assert.deepEqual(types(), ["open"]);
  await pass(1);
  assert.deepEqual(types(), ["open", "close", "reconnecting"]);
});

test("each heartbeat timeout in a row doubles the time for an answer, up to 32 times, until there is one", async () => {
  const { types } = await opened({ heartbeat: { interval: 1000, timeout: 200 } });
  for (const time of [200, 400, 800, 1600, 3200, 6400, 6400]) {
    FakeSocket.last.receives("welcome");
    await pass(1000);
    const before = types().length;
    await pass(time - 1);
    assert.equal(types().length, before);
    await pass(1);
    assert.equal(types().length, before + 2);
    await reconnect();
  }
  await pass(1000);
  FakeSocket.last.receives("pong");
  await pass(1000);
  await pass(200);
  assert.equal(types().at(-1), "reconnecting");
});

test("without a heartbeat, nothing is sent and a pong is a message", async () => {
  const { types } = await opened();
  await pass(1_000_000);
  FakeSocket.last.receives("pong");
  assert.deepEqual(FakeSocket.last.sent, []);
  assert.deepEqual(types(), ["open", "message"]);
});

test("the binary type is that of all sockets", async () => {
  const { client } = await opened({ binaryType: "arraybuffer" });
  assert.equal(FakeSocket.last.binaryType, "arraybuffer");
  client.binaryType = "blob";
  assert.equal(FakeSocket.last.binaryType, "blob");
  FakeSocket.last.ends();
  assert.equal(client.binaryType, "blob");
  await reconnect();
  assert.equal(FakeSocket.last.binaryType, "blob");
});

test("without a WebSocket, the constructor says what to do", () => {
  assert.throws(() => new ReconnectingWebSocket("ws://gateway/", { WebSocket: null }), /use the option WebSocket/);
});

// ---- The end

const SITUATIONS = {
  "while the URL is asked for": () => connecting({}, () => new Promise(() => {})),
  "while it waits": async () => {
    const rig = await opened();
    FakeSocket.last.ends();
    return rig;
  },
};

for (const [name, reach] of Object.entries(SITUATIONS)) {
  test(`a client that is closed ${name} has ended at once`, async () => {
    const { client, last } = await reach();
    const before = FakeSocket.all.length;
    client.send("never sent");
    client.close();
    const { code, willReconnect, pending } = last();
    assert.deepEqual([code, willReconnect, pending], [1000, false, ["never sent"]]);
    assert.equal(client.readyState, 3);
    await pass(100_000);
    assert.equal(FakeSocket.all.length, before);
  });
}

test("a client that is closed while it connects has ended at once, whatever its socket does", async () => {
  for (const close of [() => {}, (socket) => socket.ends(1006), (socket) => socket.opens()]) {
    const { client, types, last } = await connecting();
    FakeSocket.last.close = () => close(FakeSocket.last);
    client.close();
    await pass(100_000);
    assert.deepEqual(types(), ["close"]);
    assert.deepEqual([last().code, last().willReconnect, client.readyState], [1000, false, 3]);
  }
});

test("a client may be closed by the listener of a close", async () => {
  const { client, types } = await opened();
  client.addEventListener("close", ({ willReconnect }) => willReconnect && client.close());
  FakeSocket.last.ends();
  assert.deepEqual(types(), ["open", "close", "close"]);
  await pass(100_000);
  assert.equal(FakeSocket.all.length, 1);
});

for (const [name, reach] of Object.entries({ "while it connects": connecting, "when it is open": opened, ...SITUATIONS })) {
  test(`an invalid code or reason changes nothing ${name}`, async () => {
    const { client } = await reach();
    const state = client.readyState;
    for (const code of [7, 1001, 2999, 5000, 4000.5, NaN, null]) {
      assert.throws(() => client.close(code), { name: "InvalidAccessError" });
    }
    for (const reason of ["x".repeat(124), "é".repeat(62)]) {
      assert.throws(() => client.close(1000, reason), { name: "SyntaxError" });
    }
    assert.equal(client.readyState, state);
    client.close(4999, "é".repeat(61) + "x");
    assert.throws(() => client.close(7), { name: "InvalidAccessError" });
  });
}

test("all listeners see the events in the same order, even if one of them closes the client", async () => {
  for (const type of ["close", "reconnecting"]) {
    const client = new ReconnectingWebSocket("ws://gateway/", { WebSocket: FakeSocket });
    client.addEventListener(type, () => client.close());
    const seen = [];
    client.addEventListener("close", ({ willReconnect }) => seen.push(willReconnect));
    client.addEventListener("reconnecting", () => seen.push("reconnecting"));
    await pass();
    FakeSocket.last.ends();
    assert.deepEqual(seen, type === "close" ? [true, false] : [true, "reconnecting", false]);
  }
});

test("a client may be closed twice", async () => {
  const { client, types } = await opened();
  client.close();
  client.close();
  FakeSocket.last.ends(1000);
  client.close();
  assert.deepEqual(types(), ["open", "close"]);
});

test("no timer is left after the end", async (context) => {
  const running = new Set();
  const set = globalThis.setTimeout;
  const clear = globalThis.clearTimeout;
  context.mock.method(globalThis, "setTimeout", (action, delay) => {
    const timer = set(() => (running.delete(timer), action()), delay);
    running.add(timer);
    return timer;
  });
  context.mock.method(globalThis, "clearTimeout", (timer) => (running.delete(timer), clear(timer)));
  for (const reach of [() => opened({ heartbeat: true }), connecting, ...Object.values(SITUATIONS)]) {
    const { client } = await reach();
    assert.equal(running.size, 1);
    client.close();
    FakeSocket.last?.receives("late");
    FakeSocket.last?.ends(1000);
    assert.equal(running.size, 0);
  }
});
