// ---- the right side: HTTP

const rows = new Map();  // number → row
let picked;

function pick(ws_uri) {
  picked = ws_uri;
  $("traffic").classList.toggle("picked", Boolean(ws_uri));
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

function summaryOf(exchange) {
  const body = parsed(exchange.body);
  const answer = parsed(exchange.answer ?? "");
  if (exchange.to === "gateway") {
    if (exchange.method === "GET") return answer ? `: who is in it? ${answer.count}` : ": who is in it?";
    const what = body?.type === "message" ? `“${body.text}” from ${body.from}` : `“${body?.nick} ${body?.type}”`;
    return ` gets ${what}`;
  }
  if (exchange.method === "POST") {
    const wants = ` wants in: ${body?.request?.path}`;
    return answer && answer.code !== "OK" ? `${wants}, refused` : wants;
  }
  if (exchange.method === "DELETE") return `${whose(exchange)} is gone (code ${body?.code ?? "?"})`;
  return ` says “${exchange.body}”${exchange.ws_reply ? ", answered at once" : ""}`;
}

function fanOf(exchange) {  // how many clients one request reached
  const sent = exchange.to === "gateway" ? parsed(exchange.answer ?? "")?.sent : undefined;
  if (!Number.isInteger(sent)) return el("span");
  return el("span", { className: "fan", textContent: `1 → ${sent}`, title: `one request, ${sent} message${sent === 1 ? "" : "s"}` });
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
  const incoming = exchange.to === "backend";
  const bad = exchange.error || exchange.status >= 400;
  const code = parsed(exchange.answer ?? "")?.code;
  row.ws_uri = exchange.ws_uri;
  row.group = groupOf(exchange);
  color(row, exchange.ws_uri);
  row.summary.replaceChildren(
    el("span", { className: `way to-${exchange.to}` }, ...wayOf(exchange)),
    el("span", { className: "method", textContent: exchange.method }),
    el("span", { className: "what" }, el("b", { textContent: row.group ? `room ${row.group}` : known.get(exchange.ws_uri)?.name ?? "a client" }), summaryOf(exchange)),
    fanOf(exchange),
    el("span", { className: `status ${bad ? "bad" : ""}` },
      exchange.error ? "failed" : exchange.status === null ? "…" : `${exchange.status} ${exchange.ws_reply ? "reply" : code ?? ""}`,
      el("span", { className: "soft", textContent: exchange.ms === null ? "" : ` ${exchange.ms} ms` })));
  const headers = Object.entries(exchange.headers).map(([name, value]) => `${name}: ${value}`).join("\n");
  const reply = exchange.ws_reply ? `Ws-Reply: ${exchange.ws_reply}\n\n` : "";
  row.detail.replaceChildren(
    ...section(incoming ? "Request of the gateway" : "Request of the backend", `${exchange.method} ${exchange.url}\n${headers}`),
    ...section("Body", pretty(exchange.body)),
    ...section(`Answer: ${exchange.status}`, exchange.answer === null ? exchange.error : reply + pretty(exchange.answer)),
    ...section("Do it again", exchange.curl));
  if (exchange.curl && incoming && exchange.method === "PUT") {
    row.detail.append(el("p", { className: "soft" }, "As the ce-id is the same, the chat takes it for a repeat. Leave that header out to have it said again."));
  }
  const button = exchange.curl ? copyButton(exchange.curl, "copy curl", `Copy this ${exchange.method} as a curl command`) : el("span");
  if (!row.button) row.line.append(row.button = button);
}

function rowFor(exchange) {
  let row = rows.get(exchange.number);
  if (row) return row;
  row = el("li");
  row.summary = el("summary");
  row.detail = el("div", { className: "detail" });
  row.line = el("div", { className: "row" }, el("details", {}, row.summary, row.detail));
  row.append(row.line);
  row.addEventListener("mouseenter", () => linkCards(row));
  row.addEventListener("mouseleave", () => linkCards());
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
  source.onopen = () => streamState("open", "live");
  source.onerror = () => streamState("closed", "the backend is away");
}

function streamState(state, text) {
  $("traffic-state").className = `state ${state}`;
  $("traffic-state").textContent = text;
}

document.addEventListener("visibilitychange", watch);

