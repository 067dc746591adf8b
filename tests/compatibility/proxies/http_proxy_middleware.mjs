import { createServer } from "node:http";
import { createProxyMiddleware } from "http-proxy-middleware";

const [front, gateway, back, backend] = process.argv.slice(2);
const clients = createProxyMiddleware({ target: `http://127.0.0.1:${gateway}`, ws: true, xfwd: true });
createServer(clients).on("upgrade", clients.upgrade).listen(front, "127.0.0.1");
createServer(createProxyMiddleware({ target: `http://127.0.0.1:${backend}` })).listen(back, "127.0.0.1");
