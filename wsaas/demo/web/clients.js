// ---- the left side: clients

const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 8000;
const MAX_SHOWN = 4000;  // characters of a message
const SHOWN_BYTES = 48;

// After these, the same client may try again: the connection was lost, or the gateway stops or is too busy.
const isTemporary = (code) => [1001, 1006, 1011, 1012, 1013, 1014].includes(code);

function binaryText(data) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    const bytes = [...new Uint8Array(data.slice(0, SHOWN_BYTES))].map((byte) => byte.toString(16).padStart(2, "0"));
    return `${data.byteLength} byte${data.byteLength === 1 ? "" : "s"}: ${bytes.join(" ")}${data.byteLength > SHOWN_BYTES ? " …" : ""}`;
  }
}

function shortened(text) {
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}… (of ${text.length} characters)` : text;
}

function tiny(label, what, act) {
  const button = el("button", { type: "button", className: "tiny", textContent: label, hidden: true });
  button.setAttribute("aria-label", what);
  button.addEventListener("click", act);
  return button;
}

class Client {
  constructor(path, name) {
    Object.assign(this, { path, name, wanted: Number($("node").value), hue: aHue(), attempts: 0 });
    this.build();
    this.connect();
  }

  build() {
    this.state = el("span", { className: "state" });
    this.where = el("span", { className: "mono where" });
    this.members = el("span", { className: "members" });
    this.again = el("button", { type: "button", textContent: "Reconnect", ariaLabel: `Reconnect ${this.name}` });
    this.again.addEventListener("click", () => { this.connect(); this.input.focus(); });
    this.ended = el("div", { className: "ended", hidden: true }, this.again);
    this.close = tiny("Close", `Close ${this.name}`, () => this.stop());
    this.remove = tiny("Remove", `Remove ${this.name}`, () => { this.card.remove(); clients.delete(this.tag); pick(); });
    this.log = el("div", { className: "log", tabIndex: 0 });
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-label", `What ${this.name} received`);
    this.input = el("input", { autocomplete: "off", dir: "auto", placeholder: "Message" });
    this.input.setAttribute("aria-label", `Message from ${this.name}`);
    this.send = el("button", { className: "main", textContent: "Send" });
    this.form = el("form", { className: "say" }, this.input, this.send);
    this.commands = el("div");
    this.shell = el("details", { className: "shell" }, el("summary", { textContent: "Be the backend" }), this.commands);
    this.card = el("li", { className: "client panel" },
      el("div", { className: "client-head" },
        el("h3", { title: this.name, dir: "auto", textContent: this.name }), this.close, this.remove),
      el("div", { className: "facts" }, this.state, this.where, this.members),
      this.log, this.form, this.ended, this.refusedForm(), this.shell);
    this.form.addEventListener("submit", (event) => this.say(event));
    this.card.addEventListener("mouseenter", () => pick(this.ws_uri));
    this.card.addEventListener("focusin", ({ target }) => pick(target === this.input ? undefined : this.ws_uri));
    for (const type of ["mouseleave", "focusout"]) this.card.addEventListener(type, () => pick());
    paint(this.card, this.hue);
    $("clients").append(this.card);
  }

  // What a refused client has instead of the message box.
  refusedForm() {
    this.reason = el("p");
    this.room = el("input", { required: true, maxLength: 32, pattern: "[A-Za-z0-9_.~@\\-]+", title: "letters, digits and _ . ~ @ -", autocomplete: "off", value: "lobby" });
    this.refused = el("form", { className: "refused", hidden: true }, this.reason,
      el("div", {}, el("label", {}, "Room ", this.room), el("button", { textContent: "Try again" })));
    this.refused.addEventListener("submit", (event) => {
      event.preventDefault();
      this.path = `/rooms/${this.room.value}`;
      this.connect();
      this.input.focus();
    });
    return this.refused;
  }

  connect() {
    clearTimeout(this.timer);
    clients.delete(this.tag);
    // The tag is how this page finds its own clients in the traffic. The backend takes no notice of it.
    this.tag = crypto.getRandomValues(new Uint32Array(2)).join("");
    clients.set(this.tag, this);
    this.ws_uri = undefined;
    this.refusal = "";
    this.opened = false;
    this.show(this.attempts ? "reconnecting" : "connecting");
    this.node = nodeFor(this);
    this.where.textContent = this.node ? `${this.path} · node ${this.node.number}` : this.path;
    const base = `${location.origin.replace(/^http/, "ws")}${this.node ? `/nodes/${this.node.number}` : ""}`;
    const socket = new WebSocket(`${base}${this.path}?nick=${encodeURIComponent(this.name)}&tag=${this.tag}`);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.isOpen();
    socket.onmessage = ({ data }) => { this.receive(data); flash($("wire-ws")); };
    socket.onclose = (event) => socket === this.socket && this.end(event);
  }

  isOpen() {
    if (this.attempts) this.line("event", "", "connected again");
    this.opened = true;
    this.attempts = 0;
    this.show("open");
    flash($("wire-ws"));
  }

  stop() {
    clearTimeout(this.timer);
    this.isStopped = true;
    if (this.socket.readyState === WebSocket.CLOSED) this.show("closed");
    else this.socket.close(1000, "closed by the user");
  }

  // States: connecting, open, reconnecting, closed, refused.
  show(state, text = { connecting: "connecting…", reconnecting: "reconnecting…" }[state] ?? state) {
    const isOver = state === "closed" || state === "refused";
    const hasFocus = this.card.contains(document.activeElement);
    this.isStopped = isOver;
    this.state.className = `state ${{ open: "open", closed: "closed", refused: "closed" }[state] ?? "waiting"}`;
    this.state.textContent = text;
    this.close.hidden = isOver;
    this.remove.hidden = !isOver;
    this.ended.hidden = state !== "closed";
    this.form.hidden = isOver;
    this.refused.hidden = state !== "refused";
    this.shell.hidden = state !== "open";
    // What was typed stays, and one can go on typing while the connection comes back.
    this.send.disabled = state !== "open";
    if (state !== "open") this.members.textContent = "";
    if (hasFocus && isOver) (state === "closed" ? this.again : this.room).focus();
  }

  introduce(ws_uri, exchange) {
    this.ws_uri = ws_uri;
    const code = parsed(exchange.answer ?? "")?.code;
    this.refusal = code && code !== "OK" ? code : "";
    // A browser does not say why a handshake failed. The traffic does, maybe only after the end of the socket.
    if (this.refusal && this.socket.readyState === WebSocket.CLOSED) this.refuse();
    const url = ws_uri.includes("://") ? ws_uri : `http://${ws_uri}`;
    const put = "curl -X PUT -H 'Content-Type: text/plain' -d 'hello'";
    const commands = [
      ["send a message to it", `${put} '${url}'`],
      ...(known.get(ws_uri)?.groups ?? []).map((group) => ["send a message to its room", `${put} '${url.slice(0, url.lastIndexOf("/"))}/groups/${group}'`]),
      ["ask about it", `curl '${url}'`],
      ["close it", `curl -X DELETE '${url}'`],
    ];
    this.commands.replaceChildren(
      el("p", {}, aboutUri(ws_uri), " In a terminal on the machine of the demo, you can do the same:"),
      ...commands.map(([what, line]) => el("div", { className: "command" },
        el("div", {}, el("span", { className: "soft", textContent: what }), el("pre", {}, line)),
        copyButton(line, "copy", `Copy the command: ${what}`))));
  }

  say(event) {
    event.preventDefault();
    if (!this.input.value || this.socket.readyState !== WebSocket.OPEN) return;
    if (this.path === "/echo") this.line("me", "you", this.input.value);
    this.socket.send(this.input.value);
    flash($("wire-ws"));
    this.input.value = "";
  }

  receive(data) {
    const isBinary = typeof data !== "string";
    const text = isBinary ? binaryText(data) : data;
    const message = isBinary || this.path === "/echo" ? undefined : parsed(text);
    if (message?.type === "message" && typeof message.text === "string") {
      return this.line(message.from === this.name ? "me" : "", String(message.from), message.text);
    }
    if ((message?.type === "joined" || message?.type === "left") && Array.isArray(message.members)) {
      const names = message.members.join(", ");
      this.members.replaceChildren(el("span", { className: "hidden", textContent: "in the room: " }), names);
      this.members.title = `in the room: ${names}`;
      showRoom(String(message.room));
      return this.line("event", "", `${message.nick} ${message.type}`);
    }
    // An echo, or what you pushed with curl.
    const what = this.path === "/echo" ? "echo" : "pushed";
    return this.line("", "", text, isBinary ? `${what}, binary` : what);
  }

  end({ code, reason }) {
    const said = reason && `: ${reason}`;
    if (this.isStopped || (this.opened && !isTemporary(code))) {
      this.line("event bad", "", this.isStopped ? "Closed." : `Closed by the backend, code ${code}${said}`);
      this.show("closed");
    } else if (this.refusal) {
      this.refuse();
    } else {
      if (this.opened) this.line("event bad", "", `Connection lost, code ${code}${said}`);
      if (this.attempts === 2) this.line("event bad", "", "The gateway does not answer.");
      this.retry();
    }
  }

  refuse() {
    clearTimeout(this.timer);
    this.attempts = 0;
    this.line("event bad", "", `The backend refused: ${this.refusal}`);
    this.reason.replaceChildren(`The backend answered ${this.refusal}: it accepts /rooms/NAME and /echo, not ${this.path}. Try again with the name of a room.`);
    this.show("refused");
    this.card.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  // Wait twice as long each time, and not as long as all others.
  retry() {
    const delay = Math.min(FIRST_RETRY_MS * 2 ** this.attempts++, MAX_RETRY_MS) * (.75 + Math.random() / 2);
    const seconds = Math.round(delay / 1000);
    this.show("reconnecting", seconds > 1 ? `reconnecting in ${seconds} s` : undefined);
    this.timer = setTimeout(() => this.connect(), delay);
  }

  // The server is there again, so there is nothing to wait for.
  hurry() {
    if (!this.form.hidden && this.socket.readyState === WebSocket.CLOSED) this.connect();
  }

  line(kind, who, text, tag) {
    stuckToBottom(this.log, () => {
      const item = el("p", { className: kind.startsWith("event") ? kind : "", dir: "auto" });
      if (tag) item.append(el("span", { className: "tag", textContent: tag }));
      if (who) {
        paint(item, kind === "me" ? this.hue : hueOf(who));
        item.append(el("bdi", { className: "who", textContent: who }), ": ");
      }
      item.append(shortened(String(text)));
      this.log.append(item);
      if (this.log.children.length > 300) this.log.firstChild.remove();
    });
  }
}

// Shown wherever a ws_uri is.
function aboutUri(ws_uri) {
  return el("span", {}, el("code", { className: "uri", textContent: ws_uri }), " is the ", el("b", { textContent: "ws_uri" }), ": the address at which the backend reaches this client.");
}

