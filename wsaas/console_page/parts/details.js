// ---- the panel with all that is known of one event

diagram.onSelect = showDetails;

function closeDetails({ focus = false } = {}) {
  const row = diagram.selected?.row;
  diagram.unselect();
  $("details").hidden = true;
  $("columns").classList.remove("with-details");
  if (focus) row?.focus();
}

function showDetails(event) {
  const close = el("button", { type: "button", className: "tiny", textContent: "Close" });
  close.addEventListener("click", () => closeDetails({ focus: true }));
  const kept = $("details").event === event ? $("details").scrollTop : 0;
  $("details").event = event;
  $("details").replaceChildren(
    el("div", { className: "details-head" }, el("h2", { id: "details-title" }, titleOf(event)), close),
    el("p", { className: "soft small mono" }, [event.at && clock(event.at), ...sentence(event)].filter(Boolean).join(" · ")),
    ...(DETAILS[event.kind] ?? noDetails)(event));
  $("details").hidden = false;
  $("columns").classList.add("with-details");
  $("details").scrollTop = kept;
}

const TITLES = {
  handshake: "Handshake", opened: "The WebSocket opens", refused: "The handshake is refused", push: "Push of the backend",
  request: "Request to the backend", response: "Answer of the backend", state: "State", end: "End", lost: "Missed events", gone: "Gone",
};

function titleOf(event) {
  if (event.kind !== "frame") return TITLES[event.kind] ?? event.kind;
  return `Frame ${event.direction === "in" ? "of" : "to"} the client`;
}

function sentence(event) {
  const way = wayOf(event);
  return [way && `${PLACES[way[0]]} → ${PLACES[way[1]]}`, event.attempt > 1 && `try ${event.attempt}`, event.cause && `by ${event.cause}`];
}

const noDetails = (event) => [el("p", {}, describe(event).note ?? describe(event).label)];

const DETAILS = {
  handshake: (event) => [
    facts([["Request", `${event.method} ${event.path}${event.query ? `?${event.query}` : ""}`], ["From", event.remote_address]]),
    actions(copyCurl(handshakeCurl(event))),
    ...headersPart(event.headers)],
  opened: (event) => [facts([["Status", event.status], ["Subprotocol", event.subprotocol || "none"], ["Compression", event.compression ? "permessage-deflate" : "none"]])],
  refused: (event) => [facts([["Status", event.status], ["Code", event.code ?? ""]]), el("p", { className: "small soft" }, event.close ? `The client got a 101, and at once the Close ${event.close}, which a script in a browser can read.` : "The client got this instead of a WebSocket. A script in a browser only learns that it failed.")],
  request: (event) => exchange(event, diagram.partner(event, "response")),
  response: (event) => exchange(diagram.partner(event, "request"), event),
  push: (event) => [facts([["Request", `${event.method} ws_uri`], ["Answer", `${event.status} ${event.code ?? ""}`], ["Size", event.size === undefined ? "" : size(event.size)]])],
  frame: (event) => [
    facts([["Opcode", event.opcode], ["Size", size(event.size)], ["Code", event.code], ["Reason", event.reason]]),
    event.direction === "out" && event.body ? actions(copyCurl(pushCurl(event.connection, event.body, event.opcode))) : "",
    ...bodyPart(event.body)],
  lost: (event) => [el("p", {}, `${plural(event.count, "event")} came faster than this page could take them, and are not kept. The connection itself missed nothing.`)],
};

// A request to the backend, and its answer.
function exchange(request, response) {
  const parts = [];
  if (request) {
    const place = el("div", { className: "replays" });
    parts.push(actions(copyCurl(backendCurl(request)), request.seq === undefined ? "" : replayButton(request, place)), place,
      el("h3", {}, "Request"), el("pre", { className: "line" }, `${request.method} ${request.target}`),
      ...headersPart(request.headers), ...bodyPart(request.body));
  } else parts.push(el("p", { className: "soft small" }, "Its request has left the list."));
  if (response) parts.push(...answerParts(response));
  else parts.push(el("h3", {}, "Answer"), el("p", { className: "soft" }, "None yet."));
  return parts;
}

function answerParts(response, title = "Answer") {
  const { status, failure, took_ms, retry_in_ms } = response;
  const line = failure ? failure : String(status);
  return [
    el("h3", { className: failure || status >= 300 ? "bad" : "" }, `${title}: ${line}`),
    el("p", { className: "small soft" }, [`after ${duration(took_ms)}`, response.result, typeof retry_in_ms === "number" && `again in ${duration(retry_in_ms)}`].filter(Boolean).join(" · ")),
    ...headersPart(response.headers), ...bodyPart(response.body)];
}

function facts(rows) {
  const known = rows.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return el("dl", { className: "facts" }, ...known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
}

function actions(...buttons) {
  return el("div", { className: "actions" }, ...buttons.filter(Boolean));
}

function headersPart(headers) {
  if (!headers?.length) return [];
  const rows = headers.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)));
  return [el("details", { open: true }, el("summary", {}, plural(headers.length, "header")),
    el("table", { className: "headers" }, el("caption", { className: "hidden", textContent: "Headers" }), el("tbody", {}, ...rows)))];
}

function bodyPart(body) {
  if (!body) return [];
  if (!body.size) return [el("p", { className: "soft small" }, "The body is empty.")];
  const isText = body.text !== undefined;
  const title = `Body, ${size(body.size)}${isText ? "" : ", binary"}${body.truncated ? ": only its beginning is kept" : ""}`;
  const text = isText ? (body.truncated ? body.text : pretty(body.text)) : hexDump(bodyBytes(body));
  const block = el("pre", { className: isText ? "body" : "body hex", tabIndex: 0, textContent: text });
  block.setAttribute("role", "region");
  block.setAttribute("aria-label", "Body");
  return [el("h3", { className: "minor" }, title), block];
}

// ---- copy as curl

function copyCurl(command) {
  return copyButton(command, "Copy as curl", "Copy as a curl command");
}

function backendUrl(target) {
  const base = /^(https?:\/\/[^/?]*)/.exec(node.last?.backend.url ?? "")?.[1] ?? `http://${(node.last?.backend.url ?? "localhost").split("/")[0]}`;
  return base + target;
}

function backendCurl({ method, target, headers, body }) {
  return curl({ method, url: backendUrl(target), headers, body: body?.size || method !== "GET" ? body : undefined });
}

function handshakeCurl({ path, query, headers }) {
  const url = clientUrl().replace(/^ws/, "http") + path + (query ? `?${query}` : "");
  const kept = headers.filter(([name]) => !/^(host|sec-websocket-extensions)$/i.test(name));
  return curl({ method: "GET", url, headers: kept, options: ["--http1.1", "--include", "--no-buffer"] });
}

function clientUrl() {
  return (node.last?.client_url ?? `ws://${location.host}`).replace(/\/$/, "");
}

function wsUri(id) {
  const known = view?.wsUris?.get(id) ?? `${clientUrl().replace(/^ws/, "http")}/${id}`;
  return known.includes("://") ? known : `http://${known}`;
}

function pushCurl(id, body, opcode) {
  const type = opcode === "binary" ? "application/octet-stream" : "text/plain";
  return curl({ method: "PUT", url: wsUri(id), headers: [...ownHeaders(), ["Content-Type", type]], body });
}

// ---- replay

let replays = 0;

function replayButton(request, place) {
  const button = el("button", { type: "button", className: "tiny", textContent: "Replay", title: "Send this request to the backend once more. Its answer is only shown." });
  button.addEventListener("click", () => replay(request, place, button));
  return button;
}

async function replay(request, place, button) {
  button.disabled = true;
  place.replaceChildren(el("p", { className: "soft small" }, "The request is sent again…"));
  const shown = { connection: request.connection, ce_id: request.ce_id, attempt: `replay ${++replays}`, replay: true };
  diagram.add({ ...request, ...shown, row: undefined, seq: undefined, at: Date.now() / 1000 });
  let answer;
  try {
    answer = await getJson(`/connections/${encodeURIComponent(request.connection)}/replay`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ seq: request.seq }),
    });
  } catch (error) {
    answer = { failure: error.status === 404 ? "the gateway no longer has this request" : why(error), took_ms: NaN };
  }
  diagram.add({ kind: "response", ...answer, ...shown, at: Date.now() / 1000 });
  button.disabled = false;
  place.replaceChildren(el("div", { className: "replay" }, ...answerParts(answer, "Replay"),
    el("p", { className: "soft small" }, "The gateway did nothing with this answer.")));
  notice(answer.failure ? `Replayed: ${answer.failure}` : `Replayed: the backend answered ${answer.status}.`);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("details").hidden && !$("token-dialog").open) closeDetails({ focus: true });
});
