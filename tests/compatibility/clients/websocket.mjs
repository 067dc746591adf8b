import websocket from "websocket";
import { play } from "./scenario.mjs";

const headers = { Authorization: "Bearer ada" };
// Not its `w3cwebsocket`, which does not report empty text messages.
const open = (url, protocols) => {
    const events = new EventTarget();
    const emit = (type, more) => events.dispatchEvent(Object.assign(new Event(type), more));
    const client = new websocket.client();
    client.on("connectFailed", () => emit("error"));
    client.on("connect", (connection) => {
        connection.on("message", ({ utf8Data, binaryData }) => emit("message", { data: utf8Data ?? binaryData }));
        connection.on("close", (code, reason) => emit("close", { code, reason }));
        const send = (data) => connection.send(typeof data === "string" ? data : Buffer.from(data));
        Object.assign(events, { protocol: connection.protocol, send });
        emit("open");
    });
    client.connect(url, protocols, undefined, headers);
    return Object.assign(events, { close: () => client.abort() });
};
console.log(JSON.stringify(await play(process.argv[2], open)));
