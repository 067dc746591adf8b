// The same contract as WSaaS, as a hundred lines that somebody who knows Node would write: ws and undici.
// node server.mjs PORT BACKEND_PORT CONNECTIONS
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { Pool } from "undici";
import { WebSocketServer } from "ws";

const [port, backendPort, connections] = process.argv.slice(2).map(Number);
const hostname = `127.0.0.1:${port}`;
const backend = new Pool(`http://127.0.0.1:${backendPort}`, { connections, pipelining: 1 });
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 16 << 20 });
const clients = new Map();
const OK = '{"code":"OK"}';
const GONE = '{"code":"GONE"}';

// Calls `answered(status, body)` once; status 0: no answer.
function tell(method, headers, body, answered) {
  let status = 0;
  const chunks = [];
  backend.dispatch({ method, path: "/", headers, body }, {
    onRequestStart() {},
    onResponseStart(_, code) { status = code; },
    onResponseData(_, chunk) { chunks.push(chunk); },
    onResponseEnd() { answered(status, Buffer.concat(chunks)); },
    onResponseError() { answered(0, Buffer.alloc(0)); },
  });
}

class Client {
  constructor(authorization) {
    this.id = randomBytes(16).toString("base64url");
    this.wsUri = `${hostname}/${this.id}`;
    this.authorization = authorization;
    this.queue = [];
    this.busy = false;
    this.socket = null;
  }

  headers(type) {
    const headers = { "ws-uri": this.wsUri, "content-type": type };
    if (this.authorization) headers.authorization = this.authorization;
    return headers;
  }

  // One request of a client is under way at a time, so that they keep their order.
  enqueue(method, type, body) {
    if (this.busy) {
      this.queue.push([method, type, body]);
      return;
    }
    this.busy = true;
    tell(method, this.headers(type), body, (status) => {
      this.busy = false;
      if (status === 0 && this.socket) this.socket.close(1011);
      const next = this.queue.shift();
      if (next) this.enqueue(...next);
    });
  }

  opened(socket) {
    this.socket = socket;
    clients.set(this.id, this);
    socket.on("message", (data, binary) => {
      this.enqueue("PUT", binary ? "application/octet-stream" : "text/plain; charset=utf-8", data);
    });
    socket.on("error", () => {});
    socket.on("close", (code) => {
      clients.delete(this.id);
      this.enqueue("DELETE", "application/json", JSON.stringify({ ws_uri: this.wsUri, code }));
    });
  }
}

function answer(response, status, body) {
  response.writeHead(status, { "content-type": "application/json", "content-length": body.length });
  response.end(body);
}

const server = createServer({ keepAliveTimeout: 75000 }, (request, response) => {
  const client = clients.get(request.url.slice(1));
  if (!client) answer(response, 410, GONE);
  else if (request.method === "PUT") {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      client.socket.send(body, { binary: !(request.headers["content-type"] ?? "text/").startsWith("text/") });
      answer(response, 200, OK);
    });
  } else if (request.method === "DELETE") {
    client.socket.close(1000);
    answer(response, 200, OK);
  } else answer(response, 405, GONE);
});

server.on("upgrade", (request, socket, head) => {
  const client = new Client(request.headers.authorization);
  const body = JSON.stringify({ ws_uri: client.wsUri, id: client.id, request: { path: request.url, headers: request.headers } });
  tell("POST", client.headers("application/json"), body, (status, text) => {
    if (status !== 200 || JSON.parse(text).code !== "OK") {
      socket.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    sockets.handleUpgrade(request, socket, head, (opened) => client.opened(opened));
  });
});

server.listen(port, "127.0.0.1", 4096);
