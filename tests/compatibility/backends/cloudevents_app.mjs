import { HTTP } from "cloudevents";
import express from "express";

const app = express();
app.all("/hook", express.raw({ type: () => true, limit: "1mb" }), (request, response) => {
    const { headers } = request;
    const isText = headers["content-type"] !== "application/octet-stream";
    const event = HTTP.toEvent({ headers, body: isText ? String(request.body ?? "") : request.body });
    if (event.type === "wsaas.connect") {
        if (headers.authorization !== "Bearer ada") return response.status(401).json({ code: "UNAUTHORIZED" });
        response.json({ code: "OK", groups: [event.data.request.path.slice(1)] });
    } else if (event.type === "wsaas.message") {
        response.set("Ws-Reply", isText ? "text" : "binary").end(event.data);
    } else {
        response.json({ code: String(event.data.code) });
    }
});
app.listen(process.argv[2], "127.0.0.1");
