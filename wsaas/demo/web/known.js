// ---- who is who. A client is known by its ws_uri; the POST that announced it tells its name.

const known = new Map();  // ws_uri → {name, path, hue, groups}
const clients = new Map();  // tag → Client: a card has a new tag each time it connects
const MAX_KNOWN = 1000;

let nextHue = 0;
const aHue = () => HUES[nextHue++ % HUES.length];

function flash(wire) {
  wire.classList.add("live");
  requestAnimationFrame(() => setTimeout(() => wire.classList.remove("live"), 60));
}

function paint(element, hue) {
  if (hue !== undefined) element.style.setProperty("--hue", hueColor(hue));
}

function color(element, ws_uri) {
  paint(element, known.get(ws_uri)?.hue);
}

// The colour of a name, wherever it is said: that of the latest client with this name.
function hueOf(name) {
  return [...known.values()].findLast((client) => client.name === name)?.hue;
}

function membersOf(room) {
  return [...known.values()].filter((client) => !client.isGone && client.groups.includes(room));
}

function meet(exchange) {
  if (exchange.to !== "backend") return;
  if (exchange.method === "DELETE" && known.has(exchange.ws_uri)) known.get(exchange.ws_uri).isGone = true;
  if (exchange.method !== "POST") return;
  const event = parsed(exchange.body);
  if (typeof event?.ws_uri !== "string") return;
  exchange.ws_uri = event.ws_uri;
  const query = new URLSearchParams(String(event.request?.query ?? ""));
  const path = String(event.request?.path ?? "");
  const mine = clients.get(query.get("tag"));
  if (!known.has(event.ws_uri)) {
    const name = path === "/echo" ? "echo" : query.get("nick") ?? "guest";
    known.set(event.ws_uri, { ws_uri: event.ws_uri, name, path, hue: mine?.hue ?? aHue(), groups: [] });
    if (known.size > MAX_KNOWN) known.delete(known.keys().next().value);
  }
  const groups = parsed(exchange.answer ?? "")?.groups;
  if (Array.isArray(groups)) known.get(event.ws_uri).groups = groups.map(String);
  mine?.introduce(event.ws_uri, exchange);
}

const rooms = new Set();

function showRoom(room) {
  rooms.add(room);
  $("rooms").replaceChildren(...[...rooms].map((name) => el("option", { value: name })));
}

