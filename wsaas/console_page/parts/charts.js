// ---- small charts of the last 60 samples, and what is computed from two answers

const SAMPLES = 60;
const CHART = { width: 240, height: 56, top: 4 };

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// The path of `values`, the newest at the right edge. A value that is not a number is a gap.
function linePath(values, top) {
  const step = CHART.width / (SAMPLES - 1);
  let path = "", pen = "M";
  values.forEach((value, index) => {
    if (!Number.isFinite(value)) { pen = "M"; return; }
    const x = CHART.width - (values.length - 1 - index) * step;
    const y = CHART.height - (value / top) * (CHART.height - CHART.top);
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  });
  return path;
}

// A round number that is not below `value`, for the top of a chart.
function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((factor) => factor * power >= value) * power;
}

// One chart with a line for each series: {name, color}. `format` makes a text of a value.
class Chart {
  constructor({ title, series, format }) {
    Object.assign(this, { title, series, format });
    this.values = series.map(() => []);
    this.now = series.map(({ name, color }) => el("span", { className: `now ${color}` }, el("b", { textContent: "–" }), name ? ` ${name}` : ""));
    this.lines = series.map(({ color }) => svg("path", { class: `line ${color}`, "vector-effect": "non-scaling-stroke" }));
    this.areas = series.map(({ color }) => svg("path", { class: `area ${color}` }));
    this.top = el("span", { className: "top mono" });
    this.image = svg("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, preserveAspectRatio: "none", role: "img" }, ...this.areas, ...this.lines);
    this.element = el("section", { className: "panel chart" },
      el("div", { className: "chart-head" }, el("h2", {}, title), el("span", { className: "nows" }, ...this.now)),
      el("div", { className: "plot" }, this.top, this.image));
    this.show();
  }

  add(values) {
    values.forEach((value, index) => {
      this.values[index].push(value);
      if (this.values[index].length > SAMPLES) this.values[index].shift();
    });
    this.show();
  }

  show() {
    const known = this.values.flat().filter(Number.isFinite);
    const top = roundUp(Math.max(0, ...known));
    this.top.textContent = known.length ? this.format(top) : "";
    this.values.forEach((values, index) => {
      const path = linePath(values, top);
      this.lines[index].setAttribute("d", path);
      const first = CHART.width - (values.length - 1) * CHART.width / (SAMPLES - 1);
      const closed = values.every(Number.isFinite) && values.length > 1;
      this.areas[index].setAttribute("d", closed ? `${path}V${CHART.height}H${first.toFixed(1)}Z` : "");
      this.now[index].firstChild.textContent = this.format(values.at(-1));
    });
    this.image.setAttribute("aria-label", `${this.title}, the last two minutes. ${this.series.map(({ name }, index) => this.words(name, index)).join(" ")}`);
  }

  words(name, index) {
    const known = this.values[index].filter(Number.isFinite);
    if (!known.length) return `${name || "value"}: nothing yet.`;
    return `${name || "value"}: now ${this.format(this.values[index].at(-1))}, from ${this.format(Math.min(...known))} to ${this.format(Math.max(...known))}.`;
  }
}

// Per second, between two answers. Not a number if the gateway was started in between.
function rate(before, after, name) {
  const passed = after.now - before.now;
  const more = after.numbers[name] - before.numbers[name];
  return passed > 0 && more >= 0 ? more / passed : NaN;
}

// The quantile of what came between two answers, from cumulative counts by upper bound.
function quantile(before, after, part) {
  const counts = after.map(([bound, total], index) => [bound, total - (before[index]?.[1] ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (!(all > 0) || counts.some(([, number]) => number < 0)) return NaN;
  let lower = 0, below = 0;
  for (const [bound, number] of counts) {
    if (number >= part * all) {
      if (bound === null) return lower;
      return lower + (bound - lower) * (part * all - below) / Math.max(1, number - below);
    }
    [lower, below] = [bound, number];
  }
  return lower;
}
