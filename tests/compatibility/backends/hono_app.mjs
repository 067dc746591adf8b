import { serve } from "@hono/node-server";
import { Hono } from "hono";

const app = new Hono();
app.post("/hook", async (context) => {
    if (context.req.header("Authorization") !== "Bearer ada") return context.json({ code: "UNAUTHORIZED" }, 401);
    return context.json({ code: "OK", groups: [(await context.req.json()).request.path.slice(1)] });
});
app.put("/hook", async (context) => {
    const kind = context.req.header("Content-Type").startsWith("text/") ? "text" : "binary";
    return context.body(await context.req.arrayBuffer(), 200, { "Ws-Reply": kind });
});
app.delete("/hook", async (context) => context.json({ code: String((await context.req.json()).code) }));
serve({ fetch: app.fetch, port: Number(process.argv[2]), hostname: "127.0.0.1" });
