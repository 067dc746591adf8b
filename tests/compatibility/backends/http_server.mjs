import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";

createServer(async (request, response) => {
    const body = await buffer(request);
    const answer = (status, value) => response.writeHead(status).end(JSON.stringify(value));
    if (request.method === "POST") {
        if (request.headers.authorization !== "Bearer ada") return answer(401, { code: "UNAUTHORIZED" });
        answer(200, { code: "OK", groups: [JSON.parse(body).request.path.slice(1)] });
    } else if (request.method === "PUT") {
        const kind = request.headers["content-type"].startsWith("text/") ? "text" : "binary";
        response.writeHead(200, { "Ws-Reply": kind }).end(body);
    } else {
        answer(200, { code: String(JSON.parse(body).code) });
    }
}).listen(process.argv[2], "127.0.0.1");
