import { buffer } from "node:stream/consumers";
import Koa from "koa";

const app = new Koa();
app.use(async (context) => {
    const body = await buffer(context.req);
    if (context.method === "POST") {
        if (context.get("Authorization") !== "Bearer ada") return context.throw(401);
        context.body = { code: "OK", groups: [JSON.parse(body).request.path.slice(1)] };
    } else if (context.method === "PUT") {
        context.set("Ws-Reply", context.get("Content-Type").startsWith("text/") ? "text" : "binary");
        context.body = body;
    } else {
        context.body = { code: String(JSON.parse(body).code) };
    }
});
app.listen(process.argv[2], "127.0.0.1");
