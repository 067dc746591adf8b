// What each client with the API of `WebSocket` does, in Node and in browsers. It returns what it has seen.

const EVERY_BYTE = Uint8Array.from({ length: 256 }, (_, at) => at);
const LARGE = Uint8Array.from({ length: 256 * 4096 }, (_, at) => at % 256);
const MESSAGES = ["Grüße 🎉", "", EVERY_BYTE, new Uint8Array(0), LARGE];

function isSame(echo, sent) {
    if (typeof sent === "string" || typeof echo === "string") return echo === sent;
    const bytes = new Uint8Array(echo);
    return bytes.length === sent.length && bytes.every((byte, at) => byte === sent[at]);
}

/** Returns a function that waits for the next event of a socket. */
function eventsOf(socket) {
    const waiting = [], arrived = [];
    const put = (event) => (waiting.length ? waiting.shift()(event) : arrived.push(event));
    for (const type of ["open", "message", "close"]) socket.addEventListener(type, put);
    socket.addEventListener("error", () => {});
    return () => (arrived.length ? Promise.resolve(arrived.shift()) : new Promise((done) => waiting.push(done)));
}

/** `open` makes a socket of a URL and of subprotocols, `refused` likewise, where it differs. */
export async function play(url, open, refused = open) {
    const socket = open(url, ["chat"]);
    socket.binaryType = "arraybuffer";
    const next = eventsOf(socket);
    await next();
    const { protocol } = socket;
    const same = [];
    for (const message of MESSAGES) {
        socket.send(message);
        same.push(isSame((await next()).data, message));
    }
    socket.send("push");
    const pushed = (await next()).data;
    socket.send("bye");
    const { code, reason } = await next();
    socket.close();
    const failed = refused(`${url}refused`, ["chat"]);
    const failure = await new Promise((done) => {
        failed.addEventListener("close", (event) => done(event.code));
        // Some have only this event.
        failed.addEventListener("error", () => setTimeout(done, 500, "error"));
    });
    failed.close();
    return { subprotocol: protocol, same, pushed, close: [code, reason], refused: failure };
}
