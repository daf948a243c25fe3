// Draws the report from its data. Text goes in as text nodes only: names are never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const metrics = Object.fromEntries(data.metrics.map((m) => [m.key, m]));
const SVG = "http://www.w3.org/2000/svg";
const NOTHING = "–";

// Elements: text goes in as text nodes only.

const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((c) => c !== null && c !== undefined && c !== false && c !== ""));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const sv = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Numbers.

function number(value, digits = 0) {
  if (typeof value !== "number") return NOTHING;
  const text = Math.abs(value).toLocaleString("en-US", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  return (value < 0 && Number(text.replaceAll(",", "")) !== 0 ? "−" : "") + text;
}
const signed = (value, digits) => (value > 0 ? "+" : "") + number(value, digits);
const percent = (value) => `${signed(value, Math.abs(value) < 100 ? 1 : 0)} %`;
/** About three digits, whatever the size. */
function short(value) {
  if (typeof value !== "number") return NOTHING;
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return number(value, Math.min(digits, 3));
}
const plain = (value) => String(Number(value.toPrecision(6)));
function count(value) {
  if (typeof value !== "number") return NOTHING;
  if (value >= 1e6) return `${plain(value / 1e6)}M`;
  return value >= 1e3 ? `${plain(value / 1e3)}k` : plain(value);
}
function time(seconds) {
  if (typeof seconds !== "number") return NOTHING;
  if (seconds < 100) return `${short(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}
function memory(bytes) {
  if (typeof bytes !== "number") return NOTHING;
  return bytes >= 1e9 ? `${number(bytes / 1e9, 2)} GB` : `${number(bytes / 1e6)} MB`;
}
const measure = (key, value) => {
  if (typeof value !== "number") return NOTHING;
  const { digits, unit } = metrics[key];
  return number(value, digits) + (unit && ` ${unit}`);
};
const range = (numbers) => [Math.min(...numbers), Math.max(...numbers)];

// Controls.

let names = 0;

/** Radio buttons that look like one control. Options are [value, text]. */
function segments(title, options, value, change) {
  const name = `segments-${names++}`;
  const inputs = options.map(([key]) =>
    el("input", { type: "radio", name, value: key, checked: key === value, onchange: () => change(key) }),
  );
  const box = el(
    "fieldset",
    { class: "control" },
    el("legend", {}, title),
    el(
      "div",
      { class: "segments" },
      options.map(([, text], i) => el("label", {}, inputs[i], el("span", {}, text))),
    ),
  );
  box.set = (key) => {
    for (const input of inputs) input.checked = input.value === String(key);
  };
  box.allow = (key, allowed) => {
    for (const input of inputs) if (input.value === key) input.disabled = !allowed;
  };
  return box;
}

/** Options are [value, text] or [group, [options]]. */
function chooser(title, options, value, change) {
  const option = ([key, text]) =>
    Array.isArray(text) ? el("optgroup", { label: key }, text.map(option)) : el("option", { value: key }, text);
  const select = el("select", { onchange: () => change(select.value) }, options.map(option));
  select.value = value;
  const box = el("label", { class: "control" }, el("span", { class: "name" }, title), select);
  box.set = (key) => {
    select.value = key;
  };
  box.refill = (fresh, key) => {
    select.replaceChildren(...fresh.map(option));
    select.value = key;
  };
  return box;
}

function toggle(title, value, change) {
  const input = el("input", {
    type: "checkbox",
    role: "switch",
    checked: value,
    onchange: () => change(input.checked),
  });
  return el("label", { class: "switch" }, input, title);
}

// Series: a colour and a marker each.

const SHAPES = [
  (r) => `M${-r},0a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0`,
  (r) => `M${-r * 0.9},${-r * 0.9}h${r * 1.8}v${r * 1.8}h${-r * 1.8}z`,
  (r) => `M0,${-r * 1.2}L${r * 1.15},${r * 0.85}H${-r * 1.15}z`,
  (r) => `M0,${-r * 1.3}L${r * 1.3},0L0,${r * 1.3}L${-r * 1.3},0z`,
  (r) => `M0,${r * 1.2}L${r * 1.15},${-r * 0.85}H${-r * 1.15}z`,
  (r) =>
    `M${-r * 0.4},${-r * 1.2}h${r * 0.8}v${r * 0.8}h${r * 0.8}v${r * 0.8}h${-r * 0.8}v${r * 0.8}h${-r * 0.8}v${-r * 0.8}h${-r * 0.8}v${-r * 0.8}h${r * 0.8}z`,
  (r) => `M${-r * 1.25},${-r * 0.65}h${r * 2.5}v${r * 1.3}h${-r * 2.5}z`,
];
const colour = (index) => `var(--s${index % 8})`;
const marker = (index, x, y, extra = "", r = 4.6) =>
  sv("path", { class: `mark ${extra}`, d: SHAPES[index % SHAPES.length](r), transform: `translate(${x},${y})` });

function swatch(series, kind, dash) {
  return sv(
    "svg",
    {
      class: "swatch",
      width: 26,
      height: 14,
      "aria-hidden": "true",
      "--c": kind === "published" ? "var(--paper)" : colour(series),
    },
    sv("path", { class: `line ${kind}`, d: "M1,7H25", "stroke-dasharray": dash }),
    dash === undefined && marker(series, 13, 7, kind, 4),
  );
}
const spot = (series) =>
  sv(
    "svg",
    { class: "swatch", width: 14, height: 14, "aria-hidden": "true", "--c": colour(series) },
    marker(series, 7, 7, "", 4.4),
  );

const labelOf = (point) => data.series[point.series].label;
/** The profile, where the label does not say it. */
const profileOf = (series) =>
  data.series[series].label === data.series[series].codec ? data.series[series].profile : "";
const nameOf = (point) => `${labelOf(point)} ${point.point}`;

/** [series, points], in the page's order. */
function groups(points) {
  const found = new Map();
  for (const point of points) {
    if (!found.has(point.series)) found.set(point.series, []);
    found.get(point.series).push(point);
  }
  return [...found].sort(([a], [b]) => a - b);
}

// Axes.

function linearScale([low, high], [from, to]) {
  const scale = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  scale.ticks = (wanted) => {
    const rough = (high - low || 1) / wanted;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((s) => s * power >= rough * 0.999);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
    return ticks;
  };
  return scale;
}
function logScale([low, high], span) {
  const inner = linearScale([Math.log10(low), Math.log10(high)], span);
  const scale = (value) => inner(Math.log10(value));
  scale.ticks = (wanted) => {
    let best = [];
    for (const steps of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8], [...Array(81).keys()].map((i) => 1 + i / 9)]) {
      const ticks = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
        for (const step of steps) {
          const tick = Number((step * 10 ** power).toPrecision(3));
          if (tick >= low && tick <= high) ticks.push(tick);
        }
      }
      if (ticks.length > wanted + 1 && best.length > 1) break;
      best = ticks;
    }
    return best;
  };
  return scale;
}

const tick = (value) => (Math.abs(value) >= 1e4 ? count(value) : plain(value));

function axes(svg, box, x, y, xTitle, yTitle) {
  const wanted = Math.max(3, Math.round((box.right - box.left) / 100));
  for (const value of y.ticks(Math.max(3, Math.round((box.bottom - box.top) / 60)))) {
    svg.append(
      sv("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
      sv("text", { x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, tick(value)),
    );
  }
  for (const value of x.ticks(wanted)) {
    svg.append(
      sv("line", { class: "grid", x1: x(value), x2: x(value), y1: box.top, y2: box.bottom }),
      sv("text", { x: x(value), y: box.bottom + 18, "text-anchor": "middle" }, tick(value)),
    );
  }
  svg.append(
    sv("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    sv("text", { class: "title", x: box.right, y: box.bottom + 38, "text-anchor": "end" }, xTitle),
    sv("text", { class: "title", x: 0, y: 12 }, yTitle),
  );
}

/** Place a tooltip near (x, y) inside its chart. */
function place(tip, chart, x, y) {
  const { clientWidth: width } = chart;
  tip.hidden = false;
  const left = x + 16 + tip.offsetWidth > width ? x - 16 - tip.offsetWidth : x + 16;
  tip.style.left = `${Math.max(0, Math.min(left, width - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, y - tip.offsetHeight / 2)}px`;
}

// State.

const state = { clip: 0, metric: data.psnr, x: "bpp", log: true, off: new Set(), frameMetric: data.psnr };
const clip = () => data.clips[state.clip];
const X_TITLES = { bpp: "bits per pixel", kbps: "kbit/s", parameters: "parameters" };

// Header.

function header() {
  const source = clip().source;
  const all = data.clips.flatMap((c) => c.points);
  byId("kicker").textContent = `nervkit bench ${data.version} · ${data.created}`;
  const codecs = (kind) => [...new Set(data.series.filter((s) => s.kind === kind).map((s) => s.codec))];
  const [neural, anchors] = [codecs("neural"), codecs("anchor")];
  byId("title").textContent =
    neural.length && anchors.length ? `${listed(neural)} against ${listed(anchors)}` : listed([...neural, ...anchors]);
  const clips = data.clips.length === 1 ? "one clip" : `${data.clips.length} clips`;
  const size = `${source.width}×${source.height}, ${source.frames} frames, ${plain(source.fps)} a second`;
  byId("lead").replaceChildren(
    `${all.length} files of ${neural.length + anchors.length} codecs on ${clips}. Every point is a real file: it was encoded, its bytes counted, and its quality measured on the frames that it decodes to. `,
    el("strong", {}, `${clip().name}: ${size}.`),
  );
}
function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

function clipBar() {
  if (data.clips.length < 2) return;
  const options = data.clips.map((c, i) => [String(i), c.name]);
  const change = (value) => {
    state.clip = Number(value);
    drawClip();
  };
  const make = options.length > 5 ? chooser : segments;
  byId("clips").append(el("div", {}, make("Clip", options, "0", change)));
  byId("clips").hidden = false;
}
