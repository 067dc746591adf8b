// ---- what the events of a connection are called, and where their arrows go

const WAYS = {  // [from, to]: 0 is the client, 1 the gateway, 2 the backend
  handshake: [0, 1], opened: [1, 0], refused: [1, 0], request: [1, 2], response: [2, 1], push: [2, 1],
};
const PLACES = ["client", "gateway", "backend"];

function wayOf(event) {
  if (event.kind === "frame") return event.direction === "in" ? [0, 1] : [1, 0];
  return WAYS[event.kind];
}

function preview(body) {
  if (!body) return "";
  return body.text === undefined ? size(body.size) : body.text.length > 80 ? `"${body.text.slice(0, 80)}…` : `"${body.text}"`;
}

const DESCRIBED = {
  handshake: ({ method, path, query }) => ({ label: `${method} ${path}${query ? `?${query}` : ""}` }),
  opened: ({ status, subprotocol, compression }) => ({ label: `${status} open`, more: [subprotocol, compression && "compressed"].filter(Boolean).join(", ") }),
  refused: ({ status, code }) => ({ label: `${status} ${code ?? ""}`.trim(), bad: true }),
  request: ({ event, method, body, attempt, replay }) => ({
    label: `${method} ${event}`,
    more: event === "message" ? size(body?.size) : "",
    tag: replay ? "replay" : attempt > 1 ? `try ${attempt}` : "",
  }),
  response: ({ status, failure, took_ms, retry_in_ms, replay }) => ({
    label: failure ? failure : `${status} in ${duration(took_ms)}`,
    more: typeof retry_in_ms === "number" ? `↻ ${duration(retry_in_ms)}` : "",
    tag: replay ? "replay" : "",
    bad: Boolean(failure) || status >= 300,
    failed: Boolean(failure),
  }),
  push: ({ method, status, code, size: bytes }) => ({
    label: `${method} ${method === "PUT" ? `push ${bytes === undefined || bytes === null ? "" : size(bytes)}` : "close"}`.trim(),
    more: status >= 300 ? `${status} ${code ?? ""}` : "",
    bad: status >= 300,
  }),
  frame: (event) => describeFrame(event),
  state: ({ state, reason, paused, violation, code }) => ({
    note: [state && state.toLowerCase(), reason, violation && `the client broke the protocol: ${violation} (${code})`, paused === true && "paused: no more is read from the client", paused === false && "no longer paused"].filter(Boolean).join(" · "),
    bad: paused === true || Boolean(violation),
  }),
  end: () => ({ note: "the end: nothing is left to deliver" }),
  gone: ({ message }) => ({ note: message ?? "the connection is gone", bad: true }),
  lost: ({ count: number }) => ({ note: `${plural(number, "event")} missed: this page was too slow`, bad: true }),
};

function describeFrame({ opcode, size: bytes, body, code, reason, cause }) {
  const tag = cause && cause !== "gateway" ? cause : "";
  if (opcode === "text") return { label: `text ${preview(body) || size(bytes)}`, tag };
  if (opcode === "close") return { label: `close ${code ?? ""}`, more: reason ? `"${reason}"` : "", tag };
  return { label: opcode === "binary" ? `binary ${size(bytes)}` : opcode, tag, minor: opcode !== "binary" };
}

// Return label, more, tag, note, bad, failed, minor of an event. Kinds that this page does not know get a note.
function describe(event) {
  return (DESCRIBED[event.kind] ?? (() => ({ note: event.kind })))(event);
}

// What a screen reader says of an event.
function spoken(event) {
  const { label, more, tag, note } = describe(event);
  const way = wayOf(event);
  return [way ? `${PLACES[way[0]]} to ${PLACES[way[1]]}:` : "", note ?? label, more?.replace("↻", "again in"), tag].filter(Boolean).join(" ");
}

function bodyBytes(body) {
  return body.text === undefined ? bytesOf(body.base64 ?? "") : new TextEncoder().encode(body.text);
}
