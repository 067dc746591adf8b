// ---- the next connects: their events in one diagram, and a list to choose from

const WATCHED = 20;

class WatchView {
  constructor(query) {
    this.connections = new Map();  // id → {handshake, state, color, item}
    this.wsUris = new Map();
    this.chosen = undefined;
    const path = query.get("path") ?? "";
    titles("The next 20 connects", "from the first byte of each handshake, on this node");
    this.path = el("input", { value: path, autocomplete: "off", spellcheck: false, placeholder: "any" });
    this.items = el("ul", { className: "watched" });
    this.summary = el("p", { className: "soft small", textContent: "No client has connected yet." });
    this.summary.setAttribute("role", "status");
    const form = el("form", { className: "actions" }, el("label", { className: "grow" }, "Only this path", this.path), el("button", { textContent: "Start anew" }));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.again(); });
    $("left").replaceChildren(el("section", { className: "panel boxed" }, el("h2", { className: "hidden", textContent: "Clients" }), form, this.summary, this.items));
    diagram.isShown = (id) => !this.chosen || id === this.chosen;
    diagram.colorOf = (id) => this.connections.get(id)?.color;
    diagram.hint("Connecting…");
    const filter = path ? `&path=${encodeURIComponent(path)}` : "";
    this.stream = new Stream(`/connects/events?count=${WATCHED}${filter}`, { onEvent: (kind, event) => this.take(kind, event), onState: showStream });
  }

  close() {
    this.stream.stop();
  }

  again() {
    const path = this.path.value.trim();
    const to = `#/watch${path ? `?path=${encodeURIComponent(path)}` : ""}`;
    if (location.hash === to) route(); else location.hash = to;
  }

  take(kind, event) {
    if (kind === "hello") return diagram.hint("Waiting for a client to connect. Open one, and each step appears here.");
    if (kind === "handshake" && !this.connections.has(event.connection)) this.meet(event);
    const known = this.connections.get(event.connection);
    if (known) this.note(known, kind, event);
    diagram.add({ kind, ...event });
  }

  meet(event) {
    const color = hueColor(HUES[this.connections.size % HUES.length]);
    const state = el("span", { className: "state small", textContent: "connecting" });
    const choose = el("button", { type: "button", className: "choose", title: "Show only this one" }, el("span", { className: "swatch" }), el("span", { className: "mono cut", textContent: event.path }), state);
    choose.setAttribute("aria-pressed", "false");
    choose.addEventListener("click", () => this.choose(event.connection));
    const item = el("li", {}, choose, el("a", { className: "small", href: `#/connection/${encodeURIComponent(event.connection)}`, textContent: "open", ariaLabel: `Open the connection ${shortId(event.connection)}` }));
    item.style.setProperty("--hue", color);
    this.items.append(item);
    this.connections.set(event.connection, { state, color, choose });
    this.summary.textContent = `${this.connections.size} of ${WATCHED} clients. Choose one to see it alone.`;
  }

  note({ state }, kind, event) {
    const now = { opened: ["open", "open"], refused: ["closed", `refused, ${event.status}`], end: ["closed", "ended"] }[kind];
    if (!now) return;
    state.className = `state small ${now[0]}`;
    state.textContent = now[1];
  }

  choose(id) {
    this.chosen = this.chosen === id ? undefined : id;
    for (const [each, { choose }] of this.connections) choose.setAttribute("aria-pressed", String(each === this.chosen));
    closeDetails();
    diagram.showAll();
  }
}
