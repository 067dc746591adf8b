// ---- the right side: HTTP

const rows = new Map();  // number → row
const MAX_DOTS = 8;
const RETRY_MS = 3000;
let picked;

function pick(ws_uri) {
  picked = ws_uri;
  for (const row of rows.values()) row.classList.toggle("pick", concerns(row, ws_uri));
}

// A request is about one client, or about all members of a group.
function concerns(row, ws_uri) {
  if (!row || !ws_uri) return false;
  return row.group ? Boolean(known.get(ws_uri)?.groups.includes(row.group)) : row.ws_uri === ws_uri;
}

function linkCards(row) {
  for (const client of clients.values()) client.card.classList.toggle("linked", concerns(row, client.ws_uri));
}

function groupOf(exchange) {
  return exchange.to === "gateway" ? decodeURIComponent(exchange.url.match(/\/groups\/([^/?]+)/)?.[1] ?? "") : "";
}

function isRefusal(exchange) {
  const code = parsed(exchange.answer ?? "")?.code;
  return exchange.to === "backend" && exchange.method === "POST" && code !== undefined && code !== "OK";
}

function summaryOf(exchange) {
  const body = parsed(exchange.body);
  const answer = parsed(exchange.answer ?? "");
  if (exchange.to === "gateway") {
    if (exchange.method === "GET") return [answer ? `: who is in it? ${answer.count}` : ": who is in it?"];
    if (body?.type !== "message") return [` gets “${body?.nick} ${body?.type}”`];
    const who = el("bdi", { className: "who", textContent: body.from });
    paint(who, hueOf(body.from));
    return [" gets “", el("bdi", { textContent: body.text }), "” from ", who];
  }
  if (exchange.method === "POST") return [` wants in: ${body?.request?.path}${isRefusal(exchange) ? ", refused" : ""}`];
  if (exchange.method === "DELETE") return [`${whose(exchange)} is gone (code ${body?.code ?? "?"})`];
  return [" says “", el("bdi", { textContent: exchange.body }), `”${exchange.ws_reply ? ", answered at once" : ""}`];
}

function fanOf(row, exchange) {  // how many clients one request reached, and which
  const sent = exchange.to === "gateway" ? parsed(exchange.answer ?? "")?.sent : undefined;
  if (!Number.isInteger(sent)) return el("span");
  row.reached ??= membersOf(row.group);
  const fan = el("span", { className: "fan", title: `one request, ${sent} message${sent === 1 ? "" : "s"}` }, `1 → ${sent}`);
  // Those whose connect this page has not seen have no name here.
  if (row.reached.length !== sent || sent > MAX_DOTS) return fan;
  fan.title += `: ${row.reached.map(({ name }) => name).join(", ")}`;
  fan.append(...row.reached.map(({ hue }) => {
    const dot = el("i", { className: "dot" });
    paint(dot, hue);
    return dot;
  }));
  return fan;
}

// A text that may be scrolled, by the keyboard too.
function block(title, text) {
  const pre = el("pre", { textContent: text, tabIndex: 0, ariaLabel: title });
  pre.setAttribute("role", "region");
  return pre;
}

function section(title, text, ...more) {
  return text ? [el("h3", {}, title, ...more), block(title, text)] : [];
}

function pretty(text) {
  const value = parsed(text ?? "");
  return value && typeof value === "object" ? JSON.stringify(value, null, 2) : text;
}

function fill(row, exchange) {
  const bad = exchange.error || exchange.status >= 400;
  const code = parsed(exchange.answer ?? "")?.code;
  row.exchange = exchange;
  row.ws_uri = exchange.ws_uri;
  row.group = groupOf(exchange);
  color(row, exchange.ws_uri);
  row.head.replaceChildren(
    el("span", { className: `way to-${exchange.to}` }, ...wayOf(exchange)),
    el("span", { className: "method", textContent: exchange.method }),
    el("span", { className: "what", dir: "auto" }, el("bdi", { className: "who", textContent: row.group || (known.get(exchange.ws_uri)?.name ?? "a client") }), ...summaryOf(exchange)),
    fanOf(row, exchange),
    el("span", { className: `status ${bad || isRefusal(exchange) ? "bad" : ""}` },
      exchange.error ? "failed" : exchange.status === null ? "…" : `${exchange.status} ${exchange.ws_reply ? "reply" : code ?? ""}`,
      el("span", { className: "soft ms", textContent: exchange.ms === null ? "" : ` ${exchange.ms} ms` })));
  if (!row.detail.hidden) fillDetail(row);
}

function fillDetail({ detail, exchange, reached }) {
  const incoming = exchange.to === "backend";
  const headers = Object.entries(exchange.headers).map(([name, value]) => `${name}: ${value}`).join("\n");
  const reply = exchange.ws_reply ? `Ws-Reply: ${exchange.ws_reply}\n\n` : "";
  detail.replaceChildren(
    ...(exchange.ws_uri ? [el("p", {}, aboutUri(exchange.ws_uri))] : []),
    ...(reached ? [el("p", {}, `Reached ${reached.map(({ name }) => name).join(", ") || "nobody"}.`)] : []),
    ...section(incoming ? "Request of the gateway" : "Request of the backend", `${exchange.method} ${exchange.url}\n${headers}`),
    ...section("Body", pretty(exchange.body)),
    ...section(`Answer: ${exchange.status}`, exchange.answer === null ? exchange.error : reply + pretty(exchange.answer)));
  if (!exchange.curl) return;
  detail.append(...section("Do it again, on the machine of the demo", exchange.curl),
    copyButton(exchange.curl, "Copy curl", `Copy this ${exchange.method} as a curl command`));
  if (incoming && exchange.method === "PUT") {
    detail.append(el("p", { className: "soft" }, "As the ce-id is the same, the chat takes it for a repeat. Leave that header out to have it said again."));
  }
}

function toggle(row) {
  const isOpen = row.detail.hidden;
  row.detail.hidden = !isOpen;
  row.head.setAttribute("aria-expanded", isOpen);
  if (!isOpen) return;
  fillDetail(row);
  // Show as much of it as fits, without moving the page.
  const [list, place] = [$("traffic").getBoundingClientRect(), row.getBoundingClientRect()];
  $("traffic").scrollTop += Math.min(Math.max(0, place.bottom - list.bottom), place.top - list.top);
}

function rowFor(exchange) {
  let row = rows.get(exchange.number);
  if (row) return row;
  row = el("li");
  row.detail = el("div", { className: "detail", id: `detail-${exchange.number}`, hidden: true });
  row.head = el("button", { type: "button", className: "open" });
  row.head.setAttribute("aria-expanded", false);
  row.head.setAttribute("aria-controls", row.detail.id);
  row.head.addEventListener("click", () => toggle(row));
  row.append(row.head, row.detail);
  row.addEventListener("mouseenter", () => linkCards(row));
  row.addEventListener("mouseleave", () => linkCards());
  row.addEventListener("focusin", () => linkCards(row));
  row.addEventListener("focusout", () => linkCards());
  rows.set(exchange.number, row);
  $("traffic").append(row);
  if (rows.size > 400) {
    const [oldest, item] = rows.entries().next().value;
    item.remove();
    rows.delete(oldest);
  }
  flash($(`wire-${exchange.to}`));
  return row;
}

function onTraffic({ data, lastEventId }) {
  const run = lastEventId.split(".")[0];
  if (run !== lastSeen.split(".")[0]) clearTraffic();  // the backend was started anew, and counts from 1 again
  lastSeen = lastEventId;
  stuckToBottom($("traffic"), () => {
    for (const exchange of parsed(data)) {
      meet(exchange);
      noteNode(exchange);
      if (exchange.number > clearedUpTo) fill(rowFor(exchange), exchange);
      highest = Math.max(highest, exchange.number);
    }
  });
  if (picked) pick(picked);
  showNodes();
}

let lastSeen = "";
let highest = 0;
let clearedUpTo = 0;
let source;

function clearTraffic() {
  rows.clear();
  $("traffic").replaceChildren();
  highest = clearedUpTo = 0;
}

$("clear").addEventListener("click", () => {
  const upTo = highest;
  clearTraffic();
  highest = clearedUpTo = upTo;
});

// A page that is not seen needs no stream, and browsers allow only six to one server: hidden tabs give theirs back.
function watch() {
  source?.close();
  source = undefined;
  if (document.hidden) return;
  source = new EventSource(`/traffic?after=${encodeURIComponent(lastSeen)}`);
  source.onmessage = onTraffic;
  source.onopen = () => {
    streamState("open", "live");
    for (const client of clients.values()) client.hurry();
  };
  source.onerror = () => {
    streamState("waiting", "offline");
    // The browser connects again, unless a server answered with an error.
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, RETRY_MS);
  };
}

function streamState(state, text) {
  $("traffic-state").className = `state ${state}`;
  $("traffic-state").textContent = text;
}

document.addEventListener("visibilitychange", watch);

