function flash(wire) {
  wire.classList.add("live");
  requestAnimationFrame(() => setTimeout(() => wire.classList.remove("live"), 60));
}

// ---- who is who. A client is known by its ws_uri; the POST that announced it tells its name.

const known = new Map();  // ws_uri → {name, path, hue, groups}

function color(element, ws_uri) {
  const { hue } = known.get(ws_uri) ?? {};
  if (hue !== undefined) element.style.setProperty("--hue", hueColor(hue));
}

function meet(exchange) {
  if (exchange.method !== "POST" || exchange.to !== "backend") return;
  const event = parsed(exchange.body);
  if (typeof event?.ws_uri !== "string") return;
  exchange.ws_uri = event.ws_uri;
  const query = new URLSearchParams(String(event.request?.query ?? ""));
  const path = String(event.request?.path ?? "");
  if (!known.has(event.ws_uri)) {
    const name = path === "/echo" ? "echo" : query.get("nick") ?? "guest";
    known.set(event.ws_uri, { ws_uri: event.ws_uri, name, path, hue: HUES[known.size % HUES.length], groups: [] });
  }
  const groups = parsed(exchange.answer ?? "")?.groups;
  if (Array.isArray(groups)) known.get(event.ws_uri).groups = groups.map(String);
  const mine = clients.get(query.get("tag"));
  if (mine) mine.introduce(event.ws_uri, exchange);
}

// ---- the left side: clients

const clients = new Map();  // tag → Client

class Client {
  constructor(path, name) {
    Object.assign(this, { path, name, wanted: Number($("node").value) });
    this.build();
    this.connect();
  }

  build() {
    this.state = el("span", { className: "state" });
    this.where = el("span");
    this.members = el("span");
    this.again = el("button", { type: "button", className: "tiny", textContent: "Reconnect", hidden: true });
    this.close = el("button", { type: "button", className: "tiny", textContent: "Close" });
    this.remove = el("button", { type: "button", className: "tiny", textContent: "Remove", hidden: true });
    this.log = el("div", { className: "log", tabIndex: 0 });
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-label", `What ${this.name} received`);
    this.input = el("input", { autocomplete: "off", placeholder: this.path === "/echo" ? "Say something to yourself" : `Speak as ${this.name}` });
    this.input.setAttribute("aria-label", `Message from ${this.name}`);
    this.form = el("form", { className: "say" }, this.input, el("button", { textContent: "Send" }));
    this.commands = el("div");
    this.card = el("li", { className: "client panel" },
      el("div", { className: "client-head" },
        el("h3", {}, this.name),
        this.again, this.close, this.remove),
      el("div", { className: "facts" }, el("span", { className: "mono", textContent: this.path }), this.where, this.state, this.members),
      this.log, this.form,
      el("details", { className: "shell" }, el("summary", { textContent: "Be the backend: push from your terminal" }), this.commands));
    this.again.addEventListener("click", () => { this.connect(); this.input.focus(); });
    this.close.addEventListener("click", () => this.socket.close(1000, "closed by the user"));
    this.remove.addEventListener("click", () => { this.card.remove(); clients.delete(this.tag); pick(); });
    this.form.addEventListener("submit", (event) => this.say(event));
    this.card.addEventListener("mouseenter", () => pick(this.ws_uri));
    this.card.addEventListener("focusin", ({ target }) => pick(target === this.input ? undefined : this.ws_uri));
    for (const type of ["mouseleave", "focusout"]) this.card.addEventListener(type, () => pick());
    $("clients").append(this.card);
  }

  connect() {
    clients.delete(this.tag);
    // The tag is how this page finds its own clients in the traffic. The backend takes no notice of it.
    this.tag = crypto.getRandomValues(new Uint32Array(2)).join("");
    clients.set(this.tag, this);
    this.ws_uri = undefined;
    this.refusal = "";
    this.opened = false;
    this.show("connecting");
    const address = addressFor(this);
    this.where.hidden = !this.node;
    this.where.textContent = this.node ? `node ${this.node.number}` : "";
    const scheme = address.startsWith("https://") ? "wss" : "ws";
    const host = address.replace(/^https?:\/\//, "").replace(/\/$/, "");
    this.socket = new WebSocket(`${scheme}://${host}${this.path}?nick=${encodeURIComponent(this.name)}&tag=${this.tag}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.opened = true; this.show("open"); flash($("wire-ws")); };
    this.socket.onmessage = ({ data }) => { this.receive(data); flash($("wire-ws")); };
    this.socket.onclose = (event) => this.ended(event);
  }

  show(state, text = state) {
    this.state.className = `state ${state}`;
    this.state.textContent = text;
    this.close.hidden = state === "closed";
    this.again.hidden = this.remove.hidden = state !== "closed";
    for (const element of this.form.elements) element.disabled = state !== "open";
    if (state !== "open") this.members.textContent = "";
  }

  introduce(ws_uri, exchange) {
    this.ws_uri = ws_uri;
    color(this.card, ws_uri);
    const code = parsed(exchange.answer ?? "")?.code;
    this.refusal = code && code !== "OK" ? code : "";
    if (this.refusal && this.socket.readyState === WebSocket.CLOSED) this.end.textContent = this.why();
    const url = ws_uri.includes("://") ? ws_uri : `http://${ws_uri}`;
    const commands = [
      ["send a message to it", `curl -X PUT -H 'Content-Type: text/plain' -d 'hello' '${url}'`],
      ...(known.get(ws_uri)?.groups ?? []).map((group) => ["send a message to its room", `curl -X PUT -H 'Content-Type: text/plain' -d 'hello' '${url.slice(0, url.lastIndexOf("/"))}/groups/${group}'`]),
      ["ask about it", `curl '${url}'`],
      ["close it", `curl -X DELETE '${url}'`],
    ];
    this.commands.replaceChildren(...commands.map(([what, line]) => el("div", { className: "command" },
      el("div", {}, el("span", { className: "soft", textContent: what }), el("pre", {}, line)),
      copyButton(line, "copy", `Copy the command: ${what}`))));
  }

  say(event) {
    event.preventDefault();
    if (!this.input.value || this.socket.readyState !== WebSocket.OPEN) return;
    if (this.path === "/echo") this.line("me", "you: ", this.input.value);
    this.socket.send(this.input.value);
    flash($("wire-ws"));
    this.input.value = "";
  }

  receive(data) {
    const binary = typeof data !== "string";
    const text = binary ? new TextDecoder().decode(data) : data;
    const message = binary || this.path === "/echo" ? undefined : parsed(text);
    const nick = String(message?.nick ?? "");
    switch (message?.type) {
      case "message":
        return this.line(message.from === this.name ? "me" : "", `${message.from}: `, message.text);
      case "joined":
      case "left":
        this.members.textContent = `in the room: ${[].concat(message.members).join(", ")}`;
        showRoom(String(message.room));
        return this.line("event", "", `${nick} ${message.type}`);
      default:  // an echo, or what you pushed with curl
        return this.line("", "", text, this.path === "/echo" ? "echo" : binary ? "pushed, binary" : "pushed");
    }
  }

  why() {  // a browser does not tell why a handshake failed, but the traffic may, sooner or later
    return this.refusal ? `The backend refused: ${this.refusal}` : "Refused, or the gateway is not there.";
  }

  ended({ code, reason }) {
    this.show("closed", this.opened ? "closed" : "refused");
    this.line("event bad", "", this.opened ? `Closed with code ${code}${reason && `: ${reason}`}` : this.why());
    this.end = this.log.lastChild;
  }

  line(kind, who, text, tag) {
    stuckToBottom(this.log, () => {
      const item = el("p", { className: kind.startsWith("event") ? kind : "" });
      if (tag) item.append(el("span", { className: "tag", textContent: tag }));
      if (who) item.append(el("span", { className: `who ${kind}`, textContent: who }));
      item.append(String(text));
      this.log.append(item);
      if (this.log.children.length > 300) this.log.firstChild.remove();
    });
  }
}

const rooms = new Set();

function showRoom(room) {
  rooms.add(room);
  $("rooms").replaceChildren(...[...rooms].map((name) => el("option", { value: name })));
}

