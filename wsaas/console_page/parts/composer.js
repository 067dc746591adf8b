// ---- forms that send: a message to a client, and the end of its connection

const KINDS = [["text", "text"], ["json", "JSON"], ["binary", "base64"]];
const TYPES = { text: "text/plain", json: "application/json", binary: "application/octet-stream" };

// A message that is written. `send(body, kind)` gets {text} or {base64}, and resolves to what went wrong, or to "".
class Composer {
  constructor({ label, button, send, curlOf, kinds = KINDS, main = false }) {
    Object.assign(this, { send, curlOf });
    this.input = el("textarea", { rows: 1, spellcheck: false, autocomplete: "off" });
    this.kind = el("select", {}, ...kinds.map(([value, textContent]) => el("option", { value, textContent })));
    this.kind.setAttribute("aria-label", "Type");
    this.error = el("p", { className: "bad small" });
    this.error.setAttribute("role", "alert");
    this.button = el("button", { className: main ? "main" : "", textContent: button });
    const copyIt = curlOf && el("button", { type: "button", className: "tiny", textContent: "Copy curl" });
    copyIt?.addEventListener("click", () => this.copy());
    this.form = el("form", { className: "composer" }, el("label", {}, label, this.input),
      el("div", { className: "actions" }, this.button, this.kind, copyIt ?? ""), this.error);
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.form.requestSubmit(); }
    });
    this.input.addEventListener("input", () => this.grow());
  }

  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(220, this.input.scrollHeight + 2)}px`;
  }

  enable(isOn) {
    for (const element of this.form.elements) element.disabled = !isOn;
  }

  // Return {text} or {base64}, undefined if what was written is not of the type.
  body() {
    const text = this.input.value;
    this.error.textContent = "";
    if (this.kind.value === "json" && parsed(text) === undefined) return this.refuse("This is not JSON.");
    if (this.kind.value !== "binary") return { text };
    try { return { base64: btoa(atob(text.replace(/\s/g, ""))) }; } catch { return this.refuse("This is not base64."); }
  }

  refuse(text) {
    this.error.textContent = text;
    return undefined;
  }

  async submit() {
    const body = this.body();
    if (!body) return;
    this.button.disabled = true;
    this.error.textContent = await this.send(body, this.kind.value);
    this.button.disabled = false;
    if (!this.error.textContent) { this.input.value = ""; this.grow(); }
    this.input.focus();
  }

  copy() {
    const body = this.body();
    if (body) copy(this.curlOf(body, this.kind.value));
  }
}

// Sends to a client by the REST API. `idOf` returns the id of the connection, undefined if there is none yet.
function pushComposer(idOf, label) {
  return new Composer({
    label,
    button: "Push",
    send: async (body, kind) => {
      try {
        await call(`/connections/${encodeURIComponent(idOf())}`, { method: "PUT", headers: { "Content-Type": TYPES[kind] }, body: bodyBytes(body) });
        return "";
      } catch (error) { return why(error); }
    },
    curlOf: (body, kind) => curl({ method: "PUT", url: wsUri(idOf()), headers: [...ownHeaders(), ["Content-Type", TYPES[kind]]], body }),
  });
}

// A part that is folded where there is little room, so that the diagram is near.
function foldable(title, ...content) {
  return el("details", { className: "fold", open: !matchMedia("(max-width: 860px)").matches }, el("summary", {}, title), ...content);
}

function closeForm(idOf) {
  const code = el("input", { type: "number", value: 1000, min: 1000, max: 4999, required: true });
  const reason = el("input", { maxLength: 123, autocomplete: "off", placeholder: "none" });
  const error = el("p", { className: "bad small" });
  error.setAttribute("role", "alert");
  const form = el("form", { className: "close-form" },
    el("label", { className: "code" }, "Code", code), el("label", {}, "Reason", reason), el("button", { textContent: "Close" }), error);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await call(`/connections/${encodeURIComponent(idOf())}`, {
        method: "DELETE", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code: Number(code.value), reason: reason.value }),
      });
      error.textContent = "";
    } catch (failure) { error.textContent = why(failure); }
  });
  return el("details", { className: "close-it" }, el("summary", {}, "Close this connection"), form);
}
