import ReconnectingWebSocket from "reconnecting-websocket";
import WebSocket from "ws";
import { play } from "./scenario.mjs";

const open = (url, protocols) => new ReconnectingWebSocket(`${url}?access_token=ada`, protocols, { WebSocket });
console.log(JSON.stringify(await play(process.argv[2], open)));
