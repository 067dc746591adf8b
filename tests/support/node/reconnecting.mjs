// Sends numbers with the client of clients/js until the end of its input, and the lines of the input among them.
// Prints a line for each lost connection, and what happened as JSON in the last one.
// Arguments: the URL, the options as JSON. `RECONNECTING` is the path of the client, `WS` that of the package ws, if any.
const { ReconnectingWebSocket } = await import(process.env.RECONNECTING);
const WebSocket = process.env.WS ? (await import(process.env.WS)).default : globalThis.WebSocket;

const [url, options] = [process.argv[2], JSON.parse(process.argv[3])];
const client = new ReconnectingWebSocket(url, { WebSocket, ...options });
const seen = { sent: 0, opens: 0, acks: 0, closes: [] };

const sending = setInterval(() => client.send(seen.sent++), 2);

client.addEventListener("open", () => seen.opens++);

client.addEventListener("message", ({ data }) => {
  if (data !== "ack") throw new Error(`unexpected: ${data}`);
  seen.acks++;
  client.acknowledge();
});

client.addEventListener("close", (event) => {
  seen.closes.push(event.code);
  if (event.willReconnect) {
    console.log("lost", event.code, event.reason);
    return;
  }
  clearInterval(sending);
  process.stdin.destroy();
  // Nothing else may keep this process alive.
  console.log(JSON.stringify({ ...seen, pending: event.pending, reason: event.reason }));
});

process.stdin.on("data", (line) => client.send(String(line).trim()));

process.stdin.on("end", () => {
  clearInterval(sending);
  const closing = setInterval(() => {
    if (client.readyState !== 1 || client.pending > 0) return;
    clearInterval(closing);
    client.close();
  }, 5);
});
