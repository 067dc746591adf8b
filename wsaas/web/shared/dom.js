// ---- small helpers. All text goes in as text: nothing that a client says can become markup.

const $ = (id) => document.getElementById(id);

function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

// A colour of the `hue` (degrees), even in lightness, so that all can be read in both themes.
function hueColor(hue) {
  return `light-dark(oklch(.5 .15 ${hue}), oklch(.78 .12 ${hue}))`;
}

const HUES = [265, 155, 45, 320, 205, 15, 110, 290, 80, 180];

function stuckToBottom(list, change) {
  const stuck = list.scrollTop + list.clientHeight > list.scrollHeight - 40;
  change();
  if (stuck) list.scrollTop = list.scrollHeight;
}

let noticeTimer;
function notice(text) {
  $("notice").textContent = text;
  $("notice").classList.add("on");
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => $("notice").classList.remove("on"), 1600);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    notice("Copied. Paste it into a terminal.");
  } catch {
    prompt("Copy this:", text);
  }
}

function copyButton(text, label, what) {
  const button = el("button", { type: "button", className: "tiny", textContent: label, title: text });
  button.setAttribute("aria-label", what);
  button.addEventListener("click", () => copy(text));
  return button;
}
