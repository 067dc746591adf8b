import express from "express";
import { Webhook } from "standardwebhooks";

const app = express();
const webhook = new Webhook(process.env.API_SECRET);
app.use(express.text({ type: () => true, limit: "1mb" }), (request, _, next) => {
    webhook.verify(request.body ?? "", request.headers, { jsonParse: false });
    next();
});
app.post("/hook", (request, response) => {
    if (request.get("Authorization") !== "Bearer ada") return response.status(401).json({ code: "UNAUTHORIZED" });
    response.json({ code: "OK", groups: [JSON.parse(request.body).request.path.slice(1)] });
});
app.put("/hook", (request, response) => response.set("Ws-Reply", "text").end(request.body));
app.delete("/hook", (request, response) => response.json({ code: String(JSON.parse(request.body).code) }));
app.listen(process.argv[2], "127.0.0.1");
