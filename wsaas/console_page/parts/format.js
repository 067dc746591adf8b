// ---- numbers, sizes, times and texts for people

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

// A number in few characters: 3 digits, then k and M.
function short(value) {
  if (!Number.isFinite(value)) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= size) return `${trim(value / (unit === "k" ? 1e3 : size))}${unit}`;
  }
  return Number.isInteger(value) || value >= 100 ? whole.format(value) : trim(value);
}

function trim(value) {
  return String(Number(value.toFixed(value >= 100 ? 0 : value >= 1 ? 1 : 2)));
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  if (bytes < 1024) return `${bytes} B`;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    bytes /= 1024;
    if (bytes < 1024 || unit === "GiB") return `${trim(bytes)} ${unit}`;
  }
}

function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  // The clock of the event loop has a resolution of 1 ms.
  if (ms === 0) return "<1 ms";
  if (ms < 1000) return `${trim(ms)} ms`;
  return ms < 60_000 ? `${trim(ms / 1000)} s` : age(ms / 1000);
}

function age(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  seconds = Math.max(0, Math.round(seconds));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds % 86_400 / 3600)} h`;
}

// Times come as seconds since the epoch, or as RFC 3339.
function seconds(time) {
  return typeof time === "number" ? time : Date.parse(time) / 1000;
}

function clock(time) {
  const date = new Date(time * 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

const MAX_DEPTH = 50;  // from there on, the spaces in front would be most of the text

function pretty(text) {
  const value = parsed(text);
  return value && typeof value === "object" && depth(text) <= MAX_DEPTH ? JSON.stringify(value, null, 2) : text;
}

// About how deep the objects and lists of a JSON text are nested. Brackets in its strings count, too.
function depth(text) {
  let deepest = 0, open = 0;
  for (const [each] of text.matchAll(/[[\]{}]/g)) {
    open += each === "[" || each === "{" ? 1 : -1;
    deepest = Math.max(deepest, open);
  }
  return deepest;
}

function shortId(id) {
  return id.length > 14 ? `…${id.slice(-8)}` : id;
}

function plural(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

// ---- bytes

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
}

function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

function hexDump(bytes) {
  const lines = [];
  for (let start = 0; start < bytes.length; start += 16) {
    const line = [...bytes.subarray(start, start + 16)];
    const hex = line.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = line.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${start.toString(16).padStart(4, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}
