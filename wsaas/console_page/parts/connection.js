// ---- the screen "Connection": what is known of one connection, what can be sent to it, and the diagram

let view;  // what is open on this screen: {close(), refresh()?, wsUris?}

function leaveView() {
  view?.close();
  view = undefined;
  closeDetails();
  diagram.clear();
  diagram.isShown = () => true;
  diagram.colorOf = () => undefined;
  $("left").replaceChildren();
  showStream("", "");
}

function showStream(state, text) {
  $("stream-state").className = `state ${state}`;
  $("stream-state").hidden = !text;
  if ($("stream-state").textContent !== text) $("stream-state").textContent = text;
}

function titles(title, subtitle) {
  $("connection-title").textContent = title;
  $("connection-subtitle").replaceChildren(subtitle);
}

// The text for an empty diagram with an open stream.
const QUIET = "Nothing has happened since you are looking. What comes next appears here.";

class ConnectionView {
  constructor(id) {
    this.id = id;
    this.wsUris = new Map();
    titles("Connection", mono(id));
    this.facts = el("dl", { className: "facts" });
    this.gone = el("p", { className: "banner soft-banner", hidden: true });
    this.gone.setAttribute("role", "status");
    this.push = pushComposer(() => id, "Push a message to this client");
    $("left").replaceChildren(
      this.gone,
      el("section", { className: "panel boxed" }, foldable("This client", this.facts)),
      this.controls = el("section", { className: "panel boxed" }, foldable("Send or close", this.push.form, closeForm(() => id))));
    diagram.hint("Connecting…");
    this.stream = new Stream(`/connections/${encodeURIComponent(id)}/events`, { onEvent: (kind, event) => this.take(kind, event), onState: showStream });
    this.stream.endsWithIt = true;
  }

  close() {
    this.stream.stop();
  }

  take(kind, event) {
    if (kind === "hello") {
      diagram.hint(QUIET);
      return this.show(event.connection);
    }
    if (kind === "gone") {
      diagram.hint("Nothing is kept of it.");
      return this.end(event.message);
    }
    diagram.add({ kind, ...event });
    if (kind === "end") this.end("This connection has ended, and its DELETE is delivered.");
  }

  end(text) {
    this.ended = true;
    this.gone.textContent = text;
    this.gone.hidden = false;
    this.controls.hidden = true;
  }

  show(facts) {
    if (!facts) return;
    Object.assign(this, { known: { ...this.known, ...facts } });
    const known = this.known;
    if (known.ws_uri) this.wsUris.set(this.id, known.ws_uri);
    this.facts.replaceChildren(...connectionFacts(known).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }

  async refresh() {
    if (this.ended || this.stream.stopped) return;
    try {
      this.show(await getJson(`/connections/${encodeURIComponent(this.id)}`));
    } catch { /* the stream tells */ }
  }
}

function connectionFacts(known) {
  const groups = known.groups ?? [];
  const rows = [
    ["State", el("span", { className: `state ${known.state.toUpperCase() === "OPEN" ? "open" : "closed"}` }, `${known.state.toLowerCase()}${known.paused ? ", paused" : ""}`)],
    ["Path", mono(`${known.path}${known.query ? `?${known.query}` : ""}`)],
    ["Address", mono(known.remote_address)],
    ["Context", known.context ? mono(known.context) : "none"],
    ["Groups", groups.length ? mono(groups.slice(0, 10).join(", ") + ((known.groups_count ?? groups.length) > 10 ? ` +${known.groups_count - 10}` : "")) : "none"],
    ["Connected", `${age(Date.now() / 1000 - seconds(known.connected_at))} ago`],
    ["Messages", `${count(known.messages_in)} in, ${count(known.messages_out)} out`],
    ["Waiting", waiting(known)],
  ];
  if (known.subprotocol) rows.splice(3, 0, ["Subprotocol", mono(known.subprotocol)]);
  if (known.worker) rows.push(["Process", mono(known.worker)]);
  return rows;
}

function waiting({ inbox_bytes, send_buffer_bytes }) {
  const parts = [inbox_bytes && `${size(inbox_bytes)} for the backend`, send_buffer_bytes && `${size(send_buffer_bytes)} for the client`];
  return parts.filter(Boolean).join(", ") || "nothing";
}

function mono(text) {
  return el("span", { className: "mono", textContent: text });
}

async function refreshFacts() {
  await view?.refresh?.();
}
