import express from "express";

const app = express();
app.post("/hook", express.json(), (request, response) => {
    if (request.get("Authorization") !== "Bearer ada") return response.status(401).json({ code: "UNAUTHORIZED" });
    response.json({ code: "OK", groups: [request.body.request.path.slice(1)] });
});
app.put("/hook", express.raw({ type: () => true, limit: "1mb" }), (request, response) => {
    response.set("Ws-Reply", request.is("text/*") ? "text" : "binary").end(request.body);
});
app.delete("/hook", express.json(), (request, response) => response.json({ code: String(request.body.code) }));
app.listen(process.argv[2], "127.0.0.1");
