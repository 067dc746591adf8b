// ---- the sequence diagram: one row for each event, the newest at the bottom

const MAX_ROWS = 1000;

class Diagram {
  constructor() {
    this.list = $("rows");
    this.scroller = this.list;
    this.onSelect = () => {};
    this.isShown = () => true;  // which connections are shown
    this.colorOf = () => undefined;
    this.clear();
    this.list.addEventListener("scroll", () => { if (this.isAtEnd()) this.followAgain(); }, { passive: true });
    this.list.addEventListener("click", ({ target }) => this.select(target.closest("[role=option]")));
    this.list.addEventListener("keydown", (event) => this.key(event));
    $("newer").addEventListener("click", () => { this.followAgain(); this.list.scrollTop = this.list.scrollHeight; });
    $("show-pings").addEventListener("change", () => this.showAll());
  }

  clear() {
    this.events = [];  // at most MAX_ROWS, each with its `row` once it is drawn
    this.seen = new Set();  // connection and seq: two streams may bring the same event
    this.queue = [];
    this.unseen = 0;
    this.list.replaceChildren();
    this.selected = undefined;
    this.followAgain();
    this.showState();
  }

  // Say what is shown instead of rows.
  hint(text) {
    $("no-events").textContent = text;
    this.showState();
  }

  showState() {
    const isEmpty = !this.list.childElementCount;
    this.list.hidden = isEmpty;
    $("no-events").hidden = !isEmpty;
    // The lifelines end above the list, beside its scrollbar.
    this.list.parentElement.parentElement.style.setProperty("--bar", `${this.list.offsetWidth - this.list.clientWidth}px`);
  }

  isAtEnd() {
    return this.list.scrollTop + this.list.clientHeight >= this.list.scrollHeight - 8;
  }

  followAgain() {
    this.unseen = 0;
    $("newer").hidden = true;
  }

  // Return whether the event is new.
  add(event) {
    if (event.seq !== undefined) {
      const key = `${event.connection} ${event.seq}`;
      if (this.seen.has(key)) return false;
      this.seen.add(key);
    }
    this.queue.push(event);
    if (this.queue.length > MAX_ROWS) this.queue.shift();
    // Frames of animation do not come while the page is hidden.
    if (!this.drawing) this.drawing = document.hidden ? setTimeout(() => this.draw(), 200) : requestAnimationFrame(() => this.draw());
    return true;
  }

  // Put all events of this frame into the list at once, and remove the oldest.
  draw() {
    this.drawing = undefined;
    const isFollowing = this.list.hidden || this.isAtEnd();
    const added = this.queue.splice(0);
    const animated = added.length < 10;
    const rows = document.createDocumentFragment();
    for (const event of added) {
      event.row = this.row(event);
      if (animated) event.row.classList.add("fresh");
      this.events.push(event);
      if (this.isVisible(event)) rows.append(event.row);
    }
    const shown = rows.childElementCount;
    this.list.append(rows);
    this.drop();
    this.showState();
    this.list.querySelector("[tabindex='0']") ?? this.list.lastElementChild?.setAttribute("tabindex", "0");
    if (isFollowing) this.list.scrollTop = this.list.scrollHeight;
    else if (shown) {
      this.unseen += shown;
      $("newer").hidden = false;
      $("newer").textContent = `${plural(this.unseen, "new event")} ↓`;
    }
    if (this.selected && added.some((event) => sameExchange(event, this.selected))) this.onSelect(this.selected);
  }

  drop() {
    for (const event of this.events.splice(0, Math.max(0, this.events.length - MAX_ROWS))) {
      this.seen.delete(`${event.connection} ${event.seq}`);
      event.row.remove();
    }
  }

  isVisible(event) {
    if (event !== this.selected && event.kind === "frame" && /^p[io]ng$/.test(event.opcode) && !$("show-pings").checked) return false;
    return event.connection === undefined || this.isShown(event.connection);
  }

  // Draw the list anew after a filter has changed.
  showAll() {
    this.list.replaceChildren(...this.events.filter((event) => this.isVisible(event)).map((event) => event.row));
    this.showState();
    this.list.scrollTop = this.list.scrollHeight;
  }

  row(event) {
    const { label, more, tag, note, bad, failed, minor } = describe(event);
    const way = wayOf(event);
    const row = el("div", { className: "event", tabIndex: -1 });
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", "false");
    row.setAttribute("aria-label", spoken(event));
    row.event = event;
    const color = this.colorOf(event.connection);
    if (color) row.style.setProperty("--hue", color);
    const time = event.at ? clock(event.at) : "";
    row.append(el("span", { className: "time mono" }, el("span", { className: "hours", textContent: time.slice(0, 6) }), time.slice(6)));
    if (!way) {
      row.append(el("div", { className: "lane" }, el("span", { className: `note${bad ? " bad" : ""}`, textContent: note, title: note })));
      return row;
    }
    const text = el("span", { className: "label" }, el("span", { className: "words", textContent: label, title: label }),
      more ? el("span", { className: "more", textContent: more }) : "", tag ? el("span", { className: "try", textContent: tag }) : "");
    const side = Math.min(...way) === 0 ? "client-side" : "backend-side";
    const classes = ["arrow", side, way[0] < way[1] ? "right" : "left", bad && "bad", failed && "failed", minor && "minor"];
    row.append(el("div", { className: "lane" }, el("div", { className: classes.filter(Boolean).join(" ") }, text)));
    return row;
  }

  select(row) {
    if (!row) return;
    for (const other of this.list.querySelectorAll("[aria-selected=true], [tabindex='0']")) {
      other.setAttribute("aria-selected", "false");
      other.tabIndex = -1;
    }
    row.setAttribute("aria-selected", "true");
    row.tabIndex = 0;
    row.focus({ preventScroll: true });
    this.selected = row.event;
    this.onSelect(row.event);
    row.scrollIntoView({ block: "nearest" });
  }

  unselect() {
    this.selected?.row.setAttribute("aria-selected", "false");
    this.selected = undefined;
  }

  key(event) {
    const row = event.target.closest("[role=option]");
    if (!row) return;
    const page = Math.max(1, Math.floor(this.list.clientHeight / row.offsetHeight) - 1);
    const rows = [...this.list.children], at = rows.indexOf(row);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length - 1, Enter: at, " ": at }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.select(rows[Math.min(rows.length - 1, Math.max(0, to))]);
  }

  // Return the latest event of a kind that belongs to the same request.
  partner(event, kind) {
    return this.events.findLast((other) => other.kind === kind && sameExchange(other, event));
  }
}

function sameExchange(one, other) {
  return one.ce_id !== undefined && one.connection === other.connection && one.ce_id === other.ce_id && one.attempt === other.attempt;
}

const diagram = new Diagram();
