// ---- the screen "Connections": search, sort, and pages by cursor

const PAGE_SIZE = 50;
const list = { cursors: [""], next: null, request: undefined };  // cursors: of this page and those before it

function listQuery() {
  const query = new URLSearchParams({ limit: PAGE_SIZE, sort: $("sort").value });
  const text = $("search").value.trim();
  if (text) { query.set("search", text); query.set("field", $("field").value); }
  if (list.cursors.at(-1)) query.set("after", list.cursors.at(-1));
  return query;
}

async function loadConnections() {
  list.request?.abort();
  const request = list.request = new AbortController();
  $("table-panel").setAttribute("aria-busy", "true");
  let answer;
  try {
    answer = await getJson(`/connections?${listQuery()}`, { signal: request.signal });
  } catch (error) {
    if (request.signal.aborted) return;
    $("table-panel").removeAttribute("aria-busy");
    return showEmpty(why(error));
  }
  $("table-panel").removeAttribute("aria-busy");
  showConnections(answer);
}

function showConnections({ connections, next, matched, missing }) {
  list.next = next;
  const now = Date.now() / 1000;
  $("table").tBodies[0].replaceChildren(...connections.map((each) => connectionRow(each, now)));
  $("table").hidden = !connections.length;
  $("no-connections").hidden = Boolean(connections.length);
  if (!connections.length) showNothing();
  const page = list.cursors.length;
  $("matched").textContent = matched !== null && matched !== undefined ? `${count(matched)} ${$("search").value.trim() ? "found" : "in all"}` : connections.length ? `${count(connections.length)} on this page` : "";
  $("pages").hidden = page === 1 && !next;
  $("previous").disabled = page === 1;
  $("next").disabled = !next;
  $("page-number").textContent = matched ? `${count((page - 1) * PAGE_SIZE + 1)}–${count((page - 1) * PAGE_SIZE + connections.length)} of ${count(matched)}` : `page ${count(page)}`;
  $("missing").hidden = !missing?.length;
  $("missing").textContent = missing?.length ? `Without the connections of ${missing.join(", ")}, which did not answer in time.` : "";
}

function showNothing() {
  const text = $("search").value.trim();
  if (!text) return showEmpty("No client is connected.", el("a", { className: "button main", href: "#/try", textContent: "Try it" }));
  const clear = el("button", { type: "button", textContent: "Clear the search" });
  clear.addEventListener("click", () => { $("search").value = ""; search(); $("search").focus(); });
  showEmpty(`No connection has “${text}” in ${$("field").selectedOptions[0].textContent === "any field" ? "any field" : `its ${$("field").value}`}.`, clear);
}

function showEmpty(text, ...more) {
  $("table").hidden = $("pages").hidden = true;
  $("no-connections").hidden = false;
  $("no-connections").replaceChildren(el("p", {}, text), ...more);
}

function connectionRow(each, now) {
  const waiting = each.inbox_bytes + each.send_buffer_bytes;
  const more = each.groups_count - each.groups.length;
  return el("tr", {},
    el("th", { scope: "row" },
      el("a", { href: `#/connection/${encodeURIComponent(each.id)}`, textContent: each.path, title: each.id }),
      el("span", { className: "under" }, el("span", { className: "mono", textContent: shortId(each.id), title: each.id }), ` · ${each.remote_address}${each.worker ? ` · ${each.worker}` : ""}`)),
    el("td", { className: "wide-only cut", title: each.context ?? "" }, each.context ?? el("span", { className: "soft", textContent: "–" })),
    el("td", { className: "mid-only cut", title: each.groups.join(", ") }, each.groups_count ? `${each.groups.join(", ")}${more > 0 ? ` +${count(more)}` : ""}` : el("span", { className: "soft", textContent: "–" })),
    el("td", { className: "right mid-only" }, age(now - seconds(each.connected_at))),
    el("td", { className: "right" }, `${short(each.messages_in)} / ${short(each.messages_out)}`),
    el("td", { className: `right${each.paused ? " bad" : ""}` }, waiting ? size(waiting) : el("span", { className: "soft", textContent: "0 B" }),
      each.paused ? el("span", { className: "under bad", textContent: "paused" }) : "",
      each.state.toUpperCase() === "OPEN" ? "" : el("span", { className: "under", textContent: each.state.toLowerCase() })));
}

function search() {
  list.cursors = [""];
  const query = listQuery();
  query.delete("limit");
  history.replaceState(null, "", `#/connections${query.has("search") || $("sort").value !== "connected" ? `?${query}` : ""}`);
  loadConnections();
}

function openConnections(query) {
  $("search").value = query.get("search") ?? "";
  $("field").value = query.get("field") ?? "any";
  $("sort").value = query.get("sort") ?? "connected";
  list.cursors = [""];
  loadConnections();
}

let searchTimer;
$("search").addEventListener("input", () => { clearTimeout(searchTimer); searchTimer = setTimeout(search, 250); });
$("search-form").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(searchTimer); search(); });
for (const id of ["field", "sort"]) $(id).addEventListener("change", search);
$("next").addEventListener("click", () => { list.cursors.push(list.next); turnPage(); });
$("previous").addEventListener("click", () => { list.cursors.pop(); turnPage(); });

async function turnPage() {
  await loadConnections();
  scrollTo({ top: 0 });
  $("matched").textContent = `${$("page-number").textContent}`;
}
