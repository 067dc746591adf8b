// ---- the nodes, with `wsaas demo --nodes`. One gateway has none of this.

const nodes = new Map();  // number → NodeCard
let nextNode = 0;

class NodeCard {
  constructor({ number, address }) {
    Object.assign(this, { number, address });
    this.state = el("span", { className: "state" });
    this.process = el("span", { className: "mono" });
    this.kill = el("button", { type: "button", className: "tiny", textContent: "kill -9" });
    this.start = el("button", { type: "button", className: "tiny", textContent: "Start again" });
    this.clients = el("ul", { className: "chips" });
    this.clients.setAttribute("aria-label", `Clients of node ${number}`);
    this.deletes = el("ul", { className: "deletes small" });
    this.kill.setAttribute("aria-label", `Kill node ${number}`);
    this.start.setAttribute("aria-label", `Start node ${number} again`);
    this.card = el("li", { className: "node panel" },
      el("div", { className: "client-head" }, el("h3", {}, `node ${number}`), this.kill, this.start),
      el("div", { className: "facts" }, el("span", { className: "mono", textContent: address }), this.state, this.process),
      this.clients, this.deletes);
    this.kill.addEventListener("click", () => this.act("kill"));
    this.start.addEventListener("click", () => this.act("start"));
    $("nodes").append(this.card);
    $("node").append(el("option", { value: number, textContent: `node ${number}` }));
  }

  get isRunning() {
    return this.now?.state === "running";
  }

  async act(action) {
    this.kill.disabled = this.start.disabled = true;
    try {
      await fetch(`/nodes/${this.number}/${action}`, { method: "POST" });
    } catch {
      notice("The backend is not there.");
    }
    await watchNodes();
    this.kill.disabled = this.start.disabled = false;
  }

  update(now) {
    this.now = now;
    const isUp = now.state === "running" || now.state === "starting";
    this.card.classList.toggle("down", !isUp);
    this.state.className = `state ${isUp ? now.state === "running" ? "open" : "" : "closed"}`;
    this.state.textContent = now.state;
    this.process.textContent = isUp ? `process ${now.pid}` : "";
    this.kill.hidden = !isUp;
    this.start.hidden = isUp;
  }

  show() {
    const mine = [...known.values()].filter((client) => client.node === this.number && client.accepted);
    this.clients.replaceChildren(...mine.filter((client) => !client.gone).map((client) => this.chip(client)));
    const taken = mine.filter((client) => client.gone && client.lost);
    this.deletes.replaceChildren(...taken.slice(-4).map(({ name, gone }) =>
      el("li", {}, el("span", { className: "method", textContent: "DELETE" }), ` for ${name}: sent by node ${gone}`)));
  }

  chip(client) {
    client.lost ||= this.now?.state === "killed" || client.at < this.now?.since;
    const chip = el("li", { className: `chip${client.lost ? " lost" : ""}`, textContent: client.name });
    if (client.lost) chip.title = "closed with its node: the DELETE follows";
    color(chip, client.ws_uri);
    return chip;
  }
}

function nodeOf({ to, url }) {  // a node has a URL of its own for its requests, and an address for those that it gets
  if (!nodes.size) return undefined;
  if (to === "backend") return Number(new URL(url).searchParams.get("node")) || undefined;
  const { host } = new URL(url.includes("://") ? url : `http://${url}`);
  return [...nodes.values()].find(({ address }) => address === host)?.number;
}

function noteNode(exchange) {  // the POST of a client comes from its node, the DELETE from any node
  const client = known.get(exchange.ws_uri);
  if (!client || exchange.to !== "backend") return;
  if (exchange.method === "POST") {
    client.node = nodeOf(exchange);
    client.at = exchange.at;
    client.accepted = parsed(exchange.answer ?? "")?.code === "OK";
  } else if (exchange.method === "DELETE") {
    client.gone = nodeOf(exchange);
    client.lost ||= parsed(exchange.body)?.reason === "gateway lost";
  }
}

function whose(exchange) {  // said of a DELETE: any node may send it
  const { node } = known.get(exchange.ws_uri) ?? {};
  return node ? ` of node ${node}` : "";
}

function wayOf(exchange) {
  const node = nodeOf(exchange);
  const arrow = exchange.to === "backend" ? "→" : "←";
  return [node ? `node ${node} ${arrow}` : `${arrow} backend`, el("span", { className: "hidden", textContent: exchange.to === "backend" ? "(to the backend)" : "(from the backend)" })];
}

function showNodes() {
  for (const node of nodes.values()) node.show();
}

// The node for a client that connects: the one that was chosen, or one after another.
function nodeFor(client) {
  const running = [...nodes.values()].filter((node) => node.isRunning);
  const chosen = nodes.get(client.wanted);
  return chosen ?? (running.length ? running[nextNode++ % running.length] : nodes.get(1));
}

async function watchNodes() {
  let found;
  try {
    found = await (await fetch("/nodes")).json();
  } catch {
    return;  // the list of requests says that the backend is away
  }
  for (const now of found.nodes) nodes.get(now.number).update(now);
  showNodes();
}

async function openNodes() {
  if (!config.nodes) return;
  for (const node of config.nodes) nodes.set(node.number, new NodeCard(node));
  for (const part of document.querySelectorAll(".of-nodes")) part.hidden = false;
  document.body.classList.add("with-nodes");
  $("gateway-name").textContent = `${nodes.size} nodes`;
  $("lease").textContent = config.lease / 1000;
  await watchNodes();
  setInterval(() => document.hidden || watchNodes(), 500);
}

