// ---- the test client: a WebSocket of this page. What it does appears in the diagram, with what the backend answers.

const TEST_PATH = "/echo";
const PATH_KEY = "wsaas-test-path";
const PARAMETER = "wsaas-console";  // how the page finds its own handshake among those that it watches
const FOUND_WITHIN_MS = 3000;

function storedPath() {
  try { return sessionStorage.getItem(PATH_KEY) ?? TEST_PATH; } catch { return TEST_PATH; }
}

class TestView {
  constructor(query) {
    titles("Try it", "A WebSocket of this page: type a message, and see what becomes of it.");
    this.wsUris = new Map();
    const given = query.get("path");
    // Somebody else's link may name a path, but no other server, which would be connected to at once.
    this.build(given?.startsWith("/") ? given : storedPath());
    this.connect();
  }

  build(path) {
    this.path = el("input", { value: path, required: true, pattern: "(wss?://[^/]+)?/.*", title: "a path, such as /echo?name=ada, or a whole URL, such as ws://host:8080/echo", autocomplete: "off", spellcheck: false, className: "mono" });
    this.again = el("button", { textContent: "Connect" });
    this.state = el("span", { className: "state" });
    this.state.setAttribute("role", "status");
    this.bye = el("button", { type: "button", className: "tiny", textContent: "Close" });
    this.log = el("div", { className: "chat", tabIndex: 0 });
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-label", "Messages");
    this.say = new Composer({ label: "As the client: a message", button: "Send", main: true, kinds: [KINDS[0], KINDS[2]], send: (body) => this.send(body) });
    this.push = pushComposer(() => this.id, "Push a message to this client");
    const form = el("form", { className: "actions" }, el("label", { className: "grow" }, "Path", this.path), this.again);
    form.addEventListener("submit", (event) => { event.preventDefault(); this.connect(); });
    this.bye.addEventListener("click", () => this.socket?.close(1000, "closed by the user"));
    $("left").replaceChildren(el("section", { className: "panel boxed tester" }, el("h2", { className: "hidden", textContent: "Test client" }), form, el("div", { className: "tester-state" }, this.state, this.bye), this.log, this.say.form, foldable("As the backend", this.push.form)));
  }

  close() {
    this.isClosed = true;
    this.leave();
  }

  leave() {
    clearTimeout(this.finding);
    this.socket?.close(1000, "the page was left");
    for (const stream of [this.connects, this.stream]) stream?.stop();
    this.socket = this.connects = this.stream = this.id = undefined;
  }

  // Watch the next handshakes of this path first, then make one.
  connect() {
    this.leave();
    closeDetails();
    diagram.clear();
    this.log.replaceChildren();
    this.tag = crypto.getRandomValues(new Uint32Array(2)).join("");
    try { sessionStorage.setItem(PATH_KEY, this.path.value); } catch { /* then it is forgotten */ }
    this.show("", "connecting…");
    diagram.hint("Connecting…");
    // What is behind a proxy, which may change the path, is found among the connects of all paths.
    const path = this.path.value.split("?")[0];
    const filter = /^wss?:\/\/[^/]+$/.test(clientUrl()) && path.startsWith("/") ? `&path=${encodeURIComponent(path)}` : "";
    this.connects = new Stream(`/connects/events?count=20${filter}`, {
      onEvent: (kind, event) => this.takeConnect(kind, event), onState: (state, text) => this.stream || showStream(state, text),
    });
  }

  // What was typed may be a whole URL: WS_HOSTNAME need not be where clients connect to.
  address() {
    const typed = this.path.value;
    return /^wss?:/.test(typed) ? typed : `${clientUrl()}${typed}`;
  }

  openSocket() {
    const [path, query] = this.address().split(/\?(.*)/s);
    const url = `${path}?${query ? `${query}&` : ""}${PARAMETER}=${this.tag}`;
    let socket;
    try { socket = new WebSocket(url); } catch (error) { return this.show("closed", error.message); }
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    const ifCurrent = (act) => (event) => { if (this.socket === socket) act(event); };
    socket.onopen = ifCurrent(() => { this.show("open", "open"); this.say.input.focus(); });
    socket.onmessage = ifCurrent(({ data }) => this.line("received", typeof data === "string" ? data : hexDump(new Uint8Array(data))));
    socket.onclose = ifCurrent((event) => this.ended(event));
    this.finding = setTimeout(() => {
      if (!this.id) diagram.hint("This client was not among the next 20 of its path. Connect again, or use another path.");
    }, FOUND_WITHIN_MS);
  }

  takeConnect(kind, event) {
    if (kind === "gone") return this.show("closed", event.message);
    if (kind === "hello") return this.socket ? undefined : this.openSocket();
    if (kind === "handshake" && event.query?.includes(`${PARAMETER}=${this.tag}`)) this.id = event.connection;
    if (!this.id || event.connection !== this.id) return;
    diagram.add({ kind, ...event });
    if (kind === "opened" && !this.stream) this.follow();
    if (kind === "refused") this.refusal = event;
  }

  // Its own stream goes on from here, and other clients are left alone.
  follow() {
    this.stream = new Stream(`/connections/${encodeURIComponent(this.id)}/events`, { onEvent: (kind, event) => this.take(kind, event), onState: showStream });
    this.stream.endsWithIt = true;
    this.show("open", "open");
  }

  take(kind, event) {
    if (kind === "hello") {
      if (event.connection?.ws_uri) this.wsUris.set(this.id, event.connection.ws_uri);
      return this.connects?.stop();
    }
    diagram.add({ kind, ...event });
  }

  show(state, text) {
    this.state.className = `state ${state}`;
    this.state.textContent = text;
    const isOpen = this.socket?.readyState === WebSocket.OPEN;
    this.say.enable(isOpen);
    this.push.enable(isOpen && Boolean(this.id));
    this.bye.hidden = state === "closed" || !this.socket;
    this.again.textContent = isOpen ? "Reconnect" : "Connect";
  }

  async send(body) {
    const bytes = body.text === undefined ? bodyBytes(body) : undefined;
    this.socket.send(bytes ?? body.text);
    this.line("sent", bytes ? hexDump(bytes) : body.text);
    return "";
  }

  ended({ code, reason }) {
    const wasOpen = this.state.classList.contains("open");
    this.show("closed", wasOpen ? `closed with ${code}${reason ? ` ${reason}` : ""}` : "refused: see the answer of the backend in the diagram");
    if (!wasOpen && !this.id) diagram.hint(`No handshake arrived. Nobody answers at ${this.address()}, or the gateway itself refused: see ALLOWED_ORIGINS. If clients connect elsewhere, type a whole URL, such as ws://host:8080/echo.`);
  }

  line(kind, text) {
    stuckToBottom(this.log, () => {
      this.log.append(el("p", { className: kind }, el("span", { className: "hidden", textContent: kind === "sent" ? "you: " : "received: " }), el("span", { className: "bubble", textContent: text })));
      if (this.log.children.length > 200) this.log.firstChild.remove();
    });
  }
}
