import Hapi from "@hapi/hapi";

const server = Hapi.server({ port: process.argv[2], host: "127.0.0.1" });
server.route([
    {
        method: "POST",
        path: "/hook",
        handler: (request, h) => {
            if (request.headers.authorization !== "Bearer ada") return h.response({ code: "UNAUTHORIZED" }).code(401);
            return { code: "OK", groups: [request.payload.request.path.slice(1)] };
        },
    },
    {
        method: "PUT",
        path: "/hook",
        options: { payload: { parse: false, output: "data" } },
        handler: (request, h) => {
            const kind = request.headers["content-type"].startsWith("text/") ? "text" : "binary";
            return h.response(request.payload).code(200).header("Ws-Reply", kind);
        },
    },
    { method: "DELETE", path: "/hook", handler: (request) => ({ code: String(request.payload.code) }) },
]);
await server.start();
