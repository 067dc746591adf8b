// ---- Server-Sent Events by fetch, as EventSource cannot send `Authorization`

class SseParser {
  constructor(onEvent) {
    Object.assign(this, { onEvent, rest: "" });
    this.reset();
  }

  reset() {
    Object.assign(this, { id: undefined, type: "message", data: [] });
  }

  push(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.onEvent({ id: this.id, type: this.type, data: this.data.join("\n") });
      return this.reset();
    }
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "id") this.id = value;
    else if (name === "event") this.type = value;
    else if (name === "data") this.data.push(value);
  }
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const SILENCE_MS = 40_000;  // the gateway sends a comment every 15 s

// Reads a stream until it ends, and connects again when it breaks.
// `onEvent(kind, event)`; `onState(state, text)`: state is "open", "closed" or "" (on the way).
class Stream {
  constructor(path, { onEvent, onState }) {
    Object.assign(this, { path, onEvent, onState, lastId: "", wait: FIRST_WAIT_MS, stopped: false });
    this.run();
  }

  stop() {
    this.stopped = true;
    this.abort?.abort();
    this.wake?.();
  }

  async run() {
    this.onState("", "connecting…");
    while (!this.stopped) {
      try {
        await this.read();
      } catch (error) {
        if (this.stopped) return;
        if (error instanceof Refusal && [400, 403, 404, 410].includes(error.status)) return this.finish(error);
        this.trouble = error instanceof Refusal ? error.message : "The gateway does not answer.";
      }
      if (this.stopped) return;
      if (this.ended) return this.onState("closed", "ended");
      await this.pause();
    }
  }

  finish(error) {
    this.stopped = true;
    this.onState("closed", error.status === 410 ? "gone" : "refused");
    this.onEvent("gone", { message: error.message });
  }

  async pause() {
    const wait = this.wait * (0.75 + Math.random() / 2);
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
    this.onState("closed", `${this.trouble ?? "The stream broke off."} Next try in ${Math.max(1, Math.round(wait / 1000))} s.`);
    await new Promise((resolve) => { this.wake = resolve; setTimeout(resolve, wait); });
    if (!this.stopped) this.onState("", "connecting…");
  }

  async read() {
    this.abort = new AbortController();
    const headers = { Accept: "text/event-stream", ...(this.lastId && { "Last-Event-ID": this.lastId }) };
    const response = await call(this.path, { headers, signal: this.abort.signal });
    this.trouble = undefined;
    this.onState("open", "live");
    const parser = new SseParser((event) => this.take(event));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    try {
      for (;;) {
        const timer = setTimeout(() => this.abort.abort(), SILENCE_MS);
        const { value, done } = await reader.read().finally(() => clearTimeout(timer));
        if (done || this.stopped) return;
        parser.push(value);
      }
    } finally {
      this.abort.abort();
    }
  }

  take({ id, type, data }) {
    const event = parsed(data);
    if (!event || this.stopped) return;
    if (id) this.lastId = id;
    this.wait = FIRST_WAIT_MS;
    this.onEvent(type, event);
    if (type !== "end" || !this.endsWithIt) return;
    this.ended = true;
    this.abort.abort();
  }
}
