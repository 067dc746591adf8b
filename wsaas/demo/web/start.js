// ---- start

const NAMES = ["ada", "grace", "alan", "radia", "ken", "barbara", "dennis", "frances", "linus", "margaret", "tim", "sophie"];
let nextName = Math.floor(Math.random() * NAMES.length);
const aName = () => NAMES[nextName++ % NAMES.length];

function openRoom() {
  const client = new Client(`/rooms/${encodeURIComponent($("room").value.trim() || "lobby")}`, $("nick").value.trim() || "guest");
  $("nick").value = aName();
  return client;
}

$("open").addEventListener("submit", (event) => { event.preventDefault(); openRoom().input.focus(); });
// On a phone, the cards and the traffic have the screen for themselves.
$("more").addEventListener("click", () => {
  const isShown = $("open").classList.toggle("shown");
  $("more").setAttribute("aria-expanded", isShown);
  if (isShown) $("nick").focus();
});
$("open-echo").addEventListener("click", () => new Client("/echo", "echo").input.focus());
$("open-refused").addEventListener("click", () => new Client("/nowhere", "nobody"));

let config = { gateway: "localhost:8080" };
(async () => {
  try {
    config = await (await fetch("/config")).json();
  } catch {
    notice("The backend is not there.");
  }
  $("gateway-name").textContent = config.gateway;
  if (config.console) {
    $("console").href = config.console;
    $("console").hidden = $("console-end").hidden = false;
  }
  $("nick").value = aName();
  await openNodes();
  watch();
  for (let opened = 0; opened < Math.max(2, nodes.size); opened++) openRoom();
})();
