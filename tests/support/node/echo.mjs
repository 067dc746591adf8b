// Sends messages of every kind, checks that each comes back, closes; prints what it saw as JSON.
import WebSocket from "ws";

const client = new WebSocket(process.argv[2], ["chat", "soap"]);
const seen = { same: [] };
const messages = ["hello", "Grüße 🎉", "", Buffer.from([0, 1, 254, 255]), Buffer.alloc(1048576, 7), "fragmented"];

client.on("unexpected-response", (_request, response) => {
  console.log(JSON.stringify({ refused: response.statusCode, retryAfter: response.headers["retry-after"] }));
  response.destroy();
  client.terminate();
});
client.on("error", () => {});

client.on("open", () => {
  seen.protocol = client.protocol;
  seen.extensions = client.extensions;
  for (const message of messages.slice(0, -1)) client.send(message);
  client.send("frag", { fin: false });
  client.send("mented", { fin: true });
  client.ping("payload");
});

client.on("pong", (payload) => {
  seen.pong = payload.toString();
});

client.on("message", (data, isBinary) => {
  const expected = Buffer.from(messages[seen.same.length]);
  if (!expected.equals(data)) throw new Error(`expected ${expected}, got ${data}`);
  seen.same.push(isBinary ? `binary:${data.length}` : `text:${data}`);
  if (seen.same.length === messages.length) client.close(4000, "done");
});

client.on("close", (code, reason) => {
  if (!seen.protocol) return;
  seen.close = [code, reason.toString()];
  console.log(JSON.stringify({ protocol: seen.protocol, extensions: seen.extensions, ...seen }));
});
