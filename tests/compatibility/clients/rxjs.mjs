import { webSocket } from "rxjs/webSocket";
import WebSocket from "ws";
import { play } from "./scenario.mjs";

// By default it writes and reads JSON.
const plain = { serializer: (value) => value, deserializer: (event) => event.data };
const open = (url, protocol) => {
    const events = new EventTarget();
    const emit = (type, more) => events.dispatchEvent(Object.assign(new Event(type), more));
    const options = { url: `${url}?access_token=ada`, protocol, WebSocketCtor: WebSocket, binaryType: "arraybuffer", ...plain };
    const openObserver = { next: ({ target }) => { events.protocol = target.protocol; emit("open"); } };
    const closeObserver = { next: ({ code, reason }) => emit("close", { code, reason }) };
    const subject = webSocket({ ...options, openObserver, closeObserver });
    subject.subscribe({ next: (data) => emit("message", { data }), error: () => {} });
    return Object.assign(events, { send: (data) => subject.next(data), close: () => subject.complete() });
};
console.log(JSON.stringify(await play(process.argv[2], open)));
