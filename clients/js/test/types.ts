// Not run: the compiler accepts this, and refuses each line below a `@ts-expect-error`.
import { QueueFullError, ReconnectingWebSocket, shouldReconnect } from "wsaas-client";
import type { ConnectionEnd, Options } from "wsaas-client";

const options: Options = {
  protocols: async () => ["v1"],
  heartbeat: { interval: 10_000 },
  shouldReconnect: (end: ConnectionEnd) => end.code === 4001 || (end.attempt < 10 && shouldReconnect(end)),
};
const client = new ReconnectingWebSocket(async () => new URL("wss://example.com/"), options);
new ReconnectingWebSocket("wss://example.com/", { WebSocket, heartbeat: true });

client.addEventListener("open", (event) => console.log(event.type, client.protocol));
client.addEventListener("message", ({ data }) => client.send(data), { once: true });
client.addEventListener("message", (event) => (event.acknowledge(), event.acknowledge(2)));
client.addEventListener("close", ({ code, willReconnect, pending }) => {
  const left: number = pending.length;
  console.log(code + left, willReconnect === false);
});
client.addEventListener("reconnecting", ({ delay, attempt }) => console.log(delay + attempt));
client.addEventListener("queuefull", { handleEvent: ({ data }) => console.log(data) });

try {
  client.send("text");
  client.send(new Uint8Array([1, 2]));
  client.acknowledge();
} catch (error) {
  if (error instanceof QueueFullError) console.log(error.message);
}
client.binaryType = "arraybuffer";
client.close(4000, "done");

// @ts-expect-error - there is no such event
client.addEventListener("opened", () => {});
// @ts-expect-error - a message is no object
client.send({ action: "join" });
// @ts-expect-error - there is no such option
new ReconnectingWebSocket("wss://example.com/", { maxDelays: 1 });
// @ts-expect-error - it is read-only
client.readyState = 3;
// @ts-expect-error - it is not waited for
new ReconnectingWebSocket("wss://example.com/", { shouldReconnect: async () => false });
