// Draws the report from its data. All text is inserted as text nodes, so that names are never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const metrics = Object.fromEntries(data.metrics.map((m) => [m.key, m]));
const SVG = "http://www.w3.org/2000/svg";
const NOTHING = "–";

// Elements.

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
/** About three significant digits. */
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

/** Radio buttons as one segmented control. Options are [value, text]. */
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

const SYMBOLS = ["Circle", "Square", "Triangle", "Diamond", "Star", "Cross", "Wye"].map((name) => d3[`symbol${name}`]);
const colour = (index) => `var(--s${index % 8})`;
/** `area` is in square pixels. */
const marker = (index, x, y, extra = "", area = 66) =>
  sv("path", {
    class: `mark ${extra}`,
    d: d3.symbol(SYMBOLS[index % SYMBOLS.length], area)(),
    transform: `translate(${x},${y})`,
  });

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
    dash === undefined && marker(series, 13, 7, kind, 50),
  );
}
const spot = (series) =>
  sv(
    "svg",
    { class: "swatch", width: 14, height: 14, "aria-hidden": "true", "--c": colour(series) },
    marker(series, 7, 7, "", 60),
  );

const labelOf = (point) => data.series[point.series].label;
/** The profile, if the label does not contain it. */
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

const tick = (value) => (Math.abs(value) >= 1e4 ? count(value) : plain(value));

function axes(svg, box, x, y, xTitle, yTitle) {
  const [across, down] = [box.right - box.left, box.bottom - box.top];
  const draw = (name, axis, scale, pixels, length, place) => {
    const wanted = Math.max(3, Math.round(pixels));
    const format = scale.base ? scale.tickFormat(wanted, tick) : tick; // a logarithmic scale leaves out labels
    d3.select(svg)
      .append("g")
      .attr("class", `axis ${name}`)
      .attr("transform", place)
      .call(axis(scale).ticks(wanted).tickFormat(format).tickSizeInner(-length).tickSizeOuter(0).tickPadding(8));
  };
  draw("y", d3.axisLeft, y, down / 60, across, `translate(${box.left},0)`);
  draw("x", d3.axisBottom, x, across / 100, down, `translate(0,${box.bottom})`);
  svg.append(
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
  const size = `${source.width}×${source.height}, ${source.frames} frames, ${plain(source.fps)} fps`;
  byId("lead").replaceChildren(
    `${all.length} files of ${neural.length + anchors.length} codecs on ${clips}. Every point is a real file; its quality is measured on its decoded frames. `,
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
