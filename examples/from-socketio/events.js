// Events and acknowledgements over a WebSocket: one of the browser, a ReconnectingWebSocket, or that of the package ws.
export class Events {
  #socket;
  #listeners = new Map();
  #waiting = new Map();
  #last = 0;

  constructor(socket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#receive(JSON.parse(data)));
    socket.addEventListener('close', ({ code, reason }) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`closed: ${code} ${reason}`));
      this.#waiting.clear();
    });
  }

  on(name, listener) {
    this.#listeners.set(name, listener);
  }

  // Returns a promise of the acknowledgement.
  emit(name, ...values) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ id, name, values }));
    });
  }

  #receive({ id, result, name, values }) {
    if (name) this.#listeners.get(name)?.(...values);
    else {
      this.#waiting.get(id)?.resolve(result);
      this.#waiting.delete(id);
    }
  }
}
