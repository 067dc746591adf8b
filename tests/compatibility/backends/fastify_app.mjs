import Fastify from "fastify";

const app = Fastify();
app.addContentTypeParser(["text/plain", "application/octet-stream"], { parseAs: "buffer" }, async (_, body) => body);
app.post("/hook", async (request, reply) => {
    if (request.headers.authorization !== "Bearer ada") return reply.code(401).send({ code: "UNAUTHORIZED" });
    return { code: "OK", groups: [request.body.request.path.slice(1)] };
});
app.put("/hook", async (request, reply) => {
    const kind = request.headers["content-type"].startsWith("text/") ? "text" : "binary";
    return reply.header("Ws-Reply", kind).send(request.body);
});
app.delete("/hook", async (request) => ({ code: String(request.body.code) }));
await app.listen({ port: Number(process.argv[2]), host: "127.0.0.1" });
