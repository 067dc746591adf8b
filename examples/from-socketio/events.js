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
      // Whether the event has arrived is not known. A ReconnectingWebSocket still sends what it has not sent yet.
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
      if (this.#socket.readyState > 1) throw new Error('closed'); // a WebSocket would drop it without an error
      this.#socket.send(JSON.stringify({ id, name, values }));
      this.#waiting.set(id, { resolve, reject });
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
