import { once } from "node:events";
import WebSocket from "ws";
import { play } from "./scenario.mjs";

const url = process.argv[2];
const headers = { Authorization: "Bearer ada" };
const seen = await play(url, (where, protocols) => new WebSocket(where, protocols, { headers }));
const refused = new WebSocket(`${url}refused`);
const [, response] = await once(refused, "unexpected-response");
refused.on("error", () => {}).terminate();
console.log(JSON.stringify({ ...seen, refused: response.statusCode }));
