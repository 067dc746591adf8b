// ---- the screen "Node". The gateway is asked every two seconds while the page is seen, whichever screen is open.

const POLL_MS = 2000;

const node = {
  last: undefined,  // the latest answer
  charts: {
    clients: new Chart({ title: "Clients", series: [{ name: "", color: "plain" }], format: short }),
    messages: new Chart({ title: "Messages", series: [{ name: "in/s", color: "in" }, { name: "out/s", color: "out" }], format: short }),
    backend: new Chart({ title: "Backend", series: [{ name: "p50", color: "in" }, { name: "p99", color: "out" }], format: duration }),
    lag: new Chart({ title: "Event loop lag", series: [{ name: "", color: "plain" }], format: duration }),
  },
};

$("charts").append(...Object.values(node.charts).map((chart) => chart.element));

async function pollNode() {
  let answer;
  try {
    answer = await getJson("/node");
  } catch (error) {
    showTrouble(error instanceof Refusal ? why(error) : "The gateway does not answer. The console tries again every two seconds.");
    return;
  }
  showTrouble("");
  if (node.last && node.last.started_at === answer.started_at) sample(node.last, answer);
  else node.charts.clients.add([answer.numbers.clients]);
  node.last = answer;
  showNode(answer);
}

function sample(before, after) {
  node.charts.clients.add([after.numbers.clients]);
  node.charts.messages.add([rate(before, after, "messages_in"), rate(before, after, "messages_out")]);
  const quantiles = [0.5, 0.99].map((part) => quantile(before.backend_ms.buckets, after.backend_ms.buckets, part));
  node.charts.backend.add(quantiles);
  node.charts.lag.add([after.numbers.loop_lag_ms]);
}

function showTrouble(text) {
  if ($("trouble").textContent !== text) $("trouble").textContent = text;
  $("trouble").hidden = !text;
  if (text) showHealth("closed", "no contact");
}

function showHealth(state, text) {
  $("health").className = `state ${state}`;
  if ($("health").textContent !== text) $("health").textContent = text;
}

function showNode(answer) {
  const { backend, problems } = answer;
  showHealth(...({ up: ["open", "backend up"], down: ["closed", "backend down"] }[backend.state] ?? ["trying", "backend: trying"]));
  $("node-facts").textContent = [answer.node, `version ${answer.version}`, `up ${age(answer.now - answer.started_at)}`, answer.workers === 1 ? "1 process" : `${answer.workers} processes`].join(" · ");
  showProblems(problems);
  $("badges").replaceChildren(...badges(answer));
  $("numbers").replaceChildren(...numberRows(answer));
  showCloses(answer.closes);
}

function showProblems(problems) {
  const shown = JSON.stringify(problems);
  if ($("problems").dataset.shown === shown) return;  // or else a screen reader would say the same every two seconds
  $("problems").dataset.shown = shown;
  if (!problems.length) return $("problems").replaceChildren(el("p", { className: "all-well" }, "All is well."));
  $("problems").replaceChildren(el("ul", { className: "problems" }, ...problems.map(({ severity, text, advice }) =>
    el("li", { className: severity }, el("span", { className: "severity", textContent: severity }),
      el("div", {}, el("b", {}, text), advice ? el("p", {}, advice) : "")))));
}

function badge(name, state, text, more = "") {
  return el("li", { className: "panel badge" }, el("span", { className: "soft small" }, name),
    el("b", { className: `state ${state}` }, text), el("span", { className: "soft small more", title: more }, more));
}

function badges({ backend, journal, cluster, now }) {
  const since = backend.since ? `for ${age(now - backend.since)}, ` : "";
  const list = [badge("Backend", { up: "open", down: "closed" }[backend.state] ?? "trying", backend.state, `${backend.state === "up" ? "" : since}${backend.url}`)];
  if (!journal.file) list.push(badge("Journal", "", "none", "a crash loses the list of open connections"));
  else list.push(journal.writable === false ? badge("Journal", "closed", "cannot be written", "see the log") : badge("Journal", "open", "written", "a crash loses no DELETE"));
  if (!cluster) list.push(badge("Cluster", "", "none", "one node"));
  else if (!cluster.in_contact) list.push(badge("Cluster", "closed", "no contact", "with NATS"));
  else list.push(badge("Cluster", cluster.unreplicated ? "trying" : "open", plural(cluster.nodes, "node"), cluster.unreplicated ? `${count(cluster.unreplicated)} not replicated` : "all is replicated"));
  return list;
}

function numberRows({ numbers: n }) {
  const rows = [
    ["Clients", `${count(n.clients)} of ${count(n.clients_limit)}`, n.clients > 0.9 * n.clients_limit],
    ["Paused clients", count(n.paused), n.paused],
    ["Waiting for the backend", size(n.backlog_bytes)],
    ["Waiting for a connection", count(n.backend_requests_waiting), n.backend_requests_waiting],
    ["Backend connections in use", `${count(n.backend_connections_busy)} of ${count(n.backend_connections_limit)}`, n.backend_connections_busy >= n.backend_connections_limit],
    ["DELETEs to deliver", count(n.disconnects_pending)],
    ["DELETEs given up", count(n.disconnects_given_up), n.disconnects_given_up],
    ["Retries", count(n.retries)],
    ["Messages given up", count(n.undelivered), n.undelivered],
    ["Connects", count(n.connects)],
    ["Refused", count(n.refused)],
    ["Messages in", `${count(n.messages_in)} (${size(n.bytes_in)})`],
    ["Messages out", `${count(n.messages_out)} (${size(n.bytes_out)})`],
  ];
  return rows.map(([name, text, isBad]) => el("div", { className: isBad ? "bad" : "" }, el("dt", {}, name), el("dd", {}, text)));
}

function showCloses(closes) {
  const rows = Object.entries(closes).filter(([, number]) => number).sort((left, right) => right[1] - left[1]);
  const all = rows.reduce((sum, [, number]) => sum + number, 0);
  $("closes").hidden = !rows.length;
  $("no-closes").hidden = Boolean(rows.length);
  $("closes").tBodies[0].replaceChildren(...rows.map(([reason, number]) => {
    const bar = el("span", { className: "bar-of" });
    bar.style.width = `${Math.max(1, 100 * number / all)}%`;
    return el("tr", {}, el("th", { scope: "row" }, reason),
      el("td", { className: "share" }, el("span", { className: "track" }, bar)),
      el("td", { className: "right" }, count(number)));
  }));
}

let pollTimer;
async function poll() {
  clearTimeout(pollTimer);
  if (document.hidden) return;
  await pollNode();
  await refreshFacts();
  clearTimeout(pollTimer);
  if (!document.hidden) pollTimer = setTimeout(poll, POLL_MS);
}
