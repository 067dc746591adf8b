// ---- shell commands, for bash and any POSIX shell that knows $'…'

const MASK = "•••";  // what the gateway shows instead of a secret, in a query "(hidden)"
const MASKS = /•••|\(hidden\)/;
const SET_BY_CURL = new Set(["host", "content-length", "connection", "transfer-encoding"]);

// A word of the shell. A mask in it becomes a variable, such as "$AUTHORIZATION".
function quoted(text, variable = "SECRET") {
  return text.split(MASKS).map(quotedPart).reduce((left, right) => `${left}"$${variable}"${right}`) || "''";
}

function quotedPart(text) {
  if (/^[\w@%+=:,./-]*$/.test(text)) return text;
  if (!/[\x00-\x1f\x7f]/.test(text.replaceAll("\n", ""))) return `'${text.replaceAll("'", `'\\''`)}'`;
  // Pasted control characters would be taken for keys.
  const escaped = text.replace(/[\\'\x01-\x1f\x7f]/g, (each) => (each === "\\" || each === "'" ? `\\${each}` : `\\x${each.charCodeAt(0).toString(16).padStart(2, "0")}`));
  return `$'${escaped}'`;
}

function variableOf(name) {
  return name.toUpperCase().replace(/[^A-Z0-9]+/g, "_");
}

function headerWord([name, value, variable]) {
  return quoted(value === "" ? `${name};` : `${name}: ${value}`, variable ?? variableOf(name));
}

// Each parameter of a query has a variable of its own.
function urlWord(url) {
  const [path, ...query] = url.split("?");
  const parameters = query.join("?").split(/(?=&)/).map((each) => quoted(each, variableOf(each.replace(/^&/, "").split("=")[0])));
  return query.length ? `${quoted(`${path}?`)}${parameters.join("")}` : quoted(path);
}

function isPlainText(body) {
  return body?.text !== undefined && !/[\x00-\x09\x0b-\x1f\x7f]/.test(body.text);
}

// `body`: undefined, or {text} or {base64} as in the events. The command sends just these bytes.
function curl({ method, url, headers = [], body, options = [] }) {
  const kept = headers.filter(([name]) => options.includes("--http1.1") || !SET_BY_CURL.has(name.toLowerCase()));
  const words = ["curl", ...options];
  if (method !== "GET") words.push("-X", quoted(method));
  if (/[[\]{}]/.test(url)) words.push("--globoff");
  words.push(urlWord(url));
  const lines = [words.join(" "), ...kept.map((header) => `-H ${headerWord(header)}`)];
  let before = "";
  if (body) {
    // Without this, curl would call it a form.
    if (!kept.some(([name]) => name.toLowerCase() === "content-type")) lines.push("-H 'Content-Type:'");
    if (isPlainText(body)) lines.push(`--data-raw ${quotedPart(body.text) || "''"}`);
    else {
      before = `printf %s ${quotedPart(body.base64 ?? toBase64(new TextEncoder().encode(body.text))) || "''"} | base64 -d | `;
      lines.push("--data-binary @-");
    }
  }
  const cut = body?.truncated ? "# The body is longer: only its beginning is here.\n" : "";
  return cut + before + lines.join(" \\\n  ");
}
