/** A WebSocket without a network. A test plays the server; `taken` of the bytes that were sent have left the socket. */
export class FakeSocket extends EventTarget {
  /** All sockets of a test, in the order in which they were opened. */
  static all = [];

  static get last() {
    return FakeSocket.all.at(-1);
  }

  readyState = 0;
  binaryType = "blob";
  protocol = "";
  bufferedAmount = 0;
  sent = [];
  closed = undefined;
  /** False: what is sent stays in `bufferedAmount`. */
  drains = true;

  constructor(url, protocols) {
    super();
    if (url === "invalid") throw new SyntaxError("invalid URL");
    Object.assign(this, { url: String(url), protocols });
    FakeSocket.all.push(this);
  }

  send(data) {
    this.sent.push(data);
    if (!this.drains) this.bufferedAmount += typeof data === "string" ? Buffer.byteLength(data) : data.byteLength;
  }

  close(code, reason) {
    this.closed = { code, reason };
    this.readyState = 2;
  }

  // ---- What the server and the network do

  opens(protocol = "") {
    Object.assign(this, { readyState: 1, protocol });
    this.dispatchEvent(new Event("open"));
  }

  receives(data) {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  ends(code = 1006, reason = "", error = undefined) {
    this.readyState = 3;
    if (code === 1006) this.dispatchEvent(Object.assign(new Event("error"), { error }));
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason, wasClean: code !== 1006 }));
  }
}
