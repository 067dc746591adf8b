// An application of Azure Web PubSub: Express with the middleware for events, and the client of the service.
// Arguments: the folder with the packages, the connection string, the hub, and options of the middleware as JSON.
// What it is told to do, and what it has seen, comes and goes as JSON over HTTP.
import { createRequire } from "node:module";

const [folder, connectionString, hub, options] = process.argv.slice(2);
const load = createRequire(`${folder}/package.json`);
const express = load("express");
const { WebPubSubServiceClient } = load("@azure/web-pubsub");
const { WebPubSubEventHandler } = load("@azure/web-pubsub-express");
const { WebSocket } = load("ws");

const events = [];
const clients = [];
// As it is now: the middleware changes the states later.
const note = (name, request) => events.push(JSON.parse(JSON.stringify({ name, ...request })));

const handler = new WebPubSubEventHandler(hub, {
  ...JSON.parse(options),
  handleConnect(request, response) {
    note("connect", request);
    const [wanted] = request.queries?.answer ?? ["{}"];
    const { fail, state, ...answer } = JSON.parse(wanted);
    if (fail) {
      response.fail(fail, "not you");
      return;
    }
    if (state) response.setState("count", state);
    response.success(answer);
  },
  onConnected: (request) => note("connected", request),
  handleUserEvent(request, response) {
    const { dataType, data, context } = request;
    const shown = dataType === "binary" ? Buffer.from(data).toString("hex") : data;
    note("message", { ...request, data: shown });
    if (dataType === "binary") response.success(data, "binary");
    else if (data === "count") {
      response.setState("count", (context.states.count ?? 0) + 1);
      response.success(JSON.stringify(context.states), "json");
    } else if (data === "nothing") response.success();
    else if (data === "fail") response.fail(400, "no");
    else response.success(`echo: ${data}`, "text");
  },
  onDisconnected: (request) => note("disconnected", request),
});

const service = new WebPubSubServiceClient(connectionString, hub, { allowInsecureConnection: true });

async function call({ group, method, args }) {
  const given = args.map((each) => (each?.base64 === undefined ? each : Buffer.from(each.base64, "base64")));
  try {
    const result = await (group === undefined ? service : service.group(group))[method](...given);
    return { result };
  } catch (error) {
    return { error: error.name, status: error.statusCode, code: error.code, message: error.message };
  }
}

// A client that uses the URL of the SDK as it is.
function connect(url, protocols) {
  const client = { opened: false, received: [], closed: null, status: null };
  client.socket = new WebSocket(url, protocols);
  client.socket.on("open", () => (client.opened = true));
  client.socket.on("message", (data, isBinary) => client.received.push(isBinary ? { hex: data.toString("hex") } : data.toString()));
  client.socket.on("unexpected-response", (_request, response) => {
    client.status = response.statusCode;
    client.socket.terminate();
  });
  client.socket.on("error", () => {});
  client.socket.on("close", (code, reason) => (client.closed = [code, reason.toString()]));
  clients.push(client);
  return clients.length - 1;
}

const app = express();
app.use(handler.getMiddleware());
app.use(express.json());
app.post("/call", async (request, response) => response.json(await call(request.body)));
app.post("/connect", (request, response) => response.json(connect(request.body.url, request.body.protocols)));
app.post("/client", (request, response) => {
  const { index, text, base64, close } = request.body;
  const { socket, ...shown } = clients[index];
  if (text !== undefined) socket.send(text);
  if (base64 !== undefined) socket.send(Buffer.from(base64, "base64"));
  if (close) socket.close(...close);
  response.json({ ...shown, protocol: socket.protocol });
});
app.get("/events", (_request, response) => response.json(events));
const server = app.listen(0, "127.0.0.1", () => console.log(`listening ${server.address().port} ${handler.path}`));
