import faye from "faye-websocket";
import { play } from "./scenario.mjs";

const headers = { Authorization: "Bearer ada" };
const open = (url, protocols) => {
    const socket = new faye.Client(url, protocols, { headers });
    const send = socket.send.bind(socket);
    socket.send = (data) => send(typeof data === "string" ? data : Buffer.from(data));
    return socket;
};
console.log(JSON.stringify(await play(process.argv[2], open)));
