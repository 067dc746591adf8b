import { WebSocket } from "undici";
import { play } from "./scenario.mjs";

const headers = { Authorization: "Bearer ada" };
const open = (url, protocols) => new WebSocket(url, { protocols, headers });
console.log(JSON.stringify(await play(process.argv[2], open)));
