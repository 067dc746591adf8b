// A backend on the Unix socket whose path is the argument. It answers each message with what it has received.
import { createServer } from "node:http";

createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    if (request.method !== "PUT") {
      response.setHeader("Content-Type", "application/json");
      response.end('{"code": "OK"}');
      return;
    }
    response.setHeader("Ws-Reply", "text");
    response.end(`${request.method} ${request.url} ${request.headers.host} ${Buffer.concat(chunks)}`);
  });
}).listen(process.argv[2]);
