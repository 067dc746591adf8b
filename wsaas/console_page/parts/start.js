// ---- which screen is open, by the fragment of the address

const SCREENS = { node: "node-screen", connections: "connections-screen", connection: "connection-screen", watch: "connection-screen", try: "connection-screen" };
const NAMES = { node: "Node", connections: "Connections", connection: "Connection", watch: "Next connects", try: "Try it" };

function route() {
  takeToken();
  const [, name, rest, query] = /^#\/([a-z]*)\/?([^?]*)\??(.*)$/.exec(location.hash) ?? [];
  const screen = name === "connection" && !rest ? "connections" : name in SCREENS ? name : "node";
  leaveView();
  for (const id of new Set(Object.values(SCREENS))) $(id).hidden = id !== SCREENS[screen];
  for (const link of document.querySelectorAll("[data-screen]")) {
    const isHere = link.dataset.screen === screen || (link.dataset.screen === "connections" && screen === "connection");
    if (isHere) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `${NAMES[screen]} · WSaaS console`;
  open(screen, rest, new URLSearchParams(query));
}

function open(screen, rest, query) {
  if (screen === "connections") openConnections(query);
  else if (screen === "connection") view = new ConnectionView(decodeURIComponent(rest));
  else if (screen === "watch") view = new WatchView(query);
  else if (screen === "try") view = new TestView(query);
  if (view?.refresh) view.refresh();
}

addEventListener("hashchange", () => { route(); scrollTo({ top: 0 }); });
addEventListener("pagehide", () => view?.close());
addEventListener("pageshow", ({ persisted }) => persisted && route());
document.addEventListener("visibilitychange", poll);
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });

takeToken();
// The first answer tells where clients connect to, which the test client needs.
poll().finally(route);
