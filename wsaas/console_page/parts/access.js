// ---- requests to the gateway, with the token in memory only

const API = `${location.pathname.replace(/\/+$/, "")}/api`;

class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

let token = "";
let asked;  // the promise of a token while the dialog is open

// The token is removed from the address at once, so that it is in no history and on no screen.
function takeToken() {
  const found = /^#token=([^&]*)(?:&(.*))?$/.exec(location.hash);
  if (!found) return;
  try { token = decodeURIComponent(found[1]); } catch { token = found[1]; }
  history.replaceState(null, "", `${location.pathname}${location.search}#${found[2] ?? "/"}`);
}

function askToken(wrong) {
  asked ??= new Promise((resolve) => {
    $("token-error").textContent = wrong ? "The gateway does not accept this token." : "";
    $("token").value = "";
    if (!$("token-dialog").open) $("token-dialog").showModal();
    $("token").focus();
    $("token-form").onsubmit = (event) => {
      event.preventDefault();
      token = $("token").value;
      $("token").value = "";
      $("token-dialog").close();
      asked = undefined;
      resolve();
    };
  });
  return asked;
}

$("token-dialog").addEventListener("cancel", (event) => event.preventDefault());

// Return the response once the token is right. Throws a Refusal for any other error, a TypeError if nobody answers.
async function call(path, options = {}) {
  for (;;) {
    if (asked) await asked;
    const used = token;
    const headers = { ...options.headers, ...(used && { Authorization: `Bearer ${used}` }) };
    const response = await fetch(`${API}${path}`, { cache: "no-store", ...options, headers });
    if (response.ok) return response;
    const answer = parsed(await response.text());
    if (response.status !== 401) {
      throw new Refusal(response.status, answer?.code ?? "", answer?.message ?? `The gateway answered ${response.status}.`);
    }
    if (used === token) await askToken(Boolean(used));
    options.signal?.throwIfAborted();
  }
}

async function getJson(path, options) {
  return (await call(path, options)).json();
}

function why(error) {
  return error instanceof Refusal ? error.message : "The gateway does not answer.";
}

// The first part of the shell commands that go to the gateway.
function ownHeaders() {
  return token ? [["Authorization", `Bearer ${MASK}`, "CONTROL_TOKEN"]] : [];
}
