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

const state = { clip: 0, metric: "psnr_rgb", x: "bpp", log: true, off: new Set(), frameMetric: "psnr_rgb" };
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

// Rate and distortion.

const rd = {};

function rdControls() {
  rd.x = segments(
    "Against",
    [
      ["bpp", "bpp"],
      ["kbps", "kbit/s"],
      ["parameters", "parameters"],
    ],
    state.x,
    (x) => {
      state.x = x;
      rdDraw();
    },
  );
  rd.metric = chooser(
    "Quality",
    data.metrics.map((m) => [m.key, m.label]),
    state.metric,
    (m) => {
      state.metric = m;
      rdDraw();
    },
  );
  byId("rd-controls").replaceChildren(
    rd.metric,
    rd.x,
    toggle("Log axis", state.log, (log) => {
      state.log = log;
      rdDraw();
    }),
  );
  const chart = byId("rd-chart");
  chart.tabIndex = 0;
  chart.setAttribute("role", "application");
  chart.setAttribute("aria-roledescription", "chart; left and right go along a curve, up and down to another");
  chart.addEventListener("pointermove", rdPoint);
  chart.addEventListener("pointerdown", rdPoint);
  chart.addEventListener("pointerleave", () => rdShow(null));
  chart.addEventListener("blur", () => rdShow(null));
  chart.addEventListener("keydown", rdKey);
}

/** Every curve that the clip has for the chosen axis and metric. */
function rdCurves() {
  const measured = groups(clip().points).map(([series, points]) => ({
    key: `s${series}`,
    series,
    kind: data.series[series].kind,
    label: data.series[series].label,
    detail: profileOf(series),
    at: points.map((p) => ({ x: p[state.x], y: p.measures[state.metric], point: p })),
  }));
  const published = clip()
    .published.map((curve, i) => ({ ...curve, i }))
    .filter((c) => c.x === state.x && c.metric === state.metric);
  return [
    ...measured,
    ...published.map((curve, index) => ({
      key: `p${state.clip}/${curve.i}`,
      series: index,
      kind: "published",
      label: curve.codec,
      detail: curve.mean ? "published, dataset’s mean" : "published",
      source: curve.source,
      note: curve.note,
      mean: curve.mean,
      at: curve.points.map(([x, y]) => ({ x, y })),
    })),
  ]
    .map((c) => ({
      ...c,
      at: c.at.filter((p) => typeof p.x === "number" && typeof p.y === "number").sort((a, b) => a.x - b.x),
    }))
    .filter((c) => c.at.length);
}

function rdDraw() {
  const hasParameters = clip().points.some((p) => p.parameters) || clip().published.some((c) => c.x === "parameters");
  rd.x.allow("parameters", hasParameters);
  if (!hasParameters && state.x === "parameters") {
    state.x = "bpp";
    rd.x.set("bpp");
  }
  const curves = rdCurves();
  rd.curves = curves.filter((c) => !state.off.has(c.key));
  const chart = byId("rd-chart");
  const width = Math.max(260, chart.clientWidth);
  const height = width < 560 ? 340 : 460;
  const box = { left: 44, right: width - 14, top: 26, bottom: height - 44 };
  const { label, unit } = metrics[state.metric];
  const svg = sv("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const at = rd.curves.flatMap((c) => c.at);
  chart.setAttribute(
    "aria-label",
    `${label} over ${X_TITLES[state.x]}, ${at.length} points of ${rd.curves.length} curves`,
  );
  const ceiling = state.metric === "psnr_rgb" ? clip().source.ceiling_psnr : null;
  let drawn = false;
  if (at.length) {
    let [low, high] = range(at.map((p) => p.y));
    const span = high - low || 1;
    drawn = typeof ceiling === "number" && state.x !== "parameters" && ceiling < high + span * 0.5;
    if (drawn) {
      low = Math.min(low, ceiling);
      high = Math.max(high, ceiling);
    }
    const [first, last] = range(at.map((p) => p.x));
    const edge = (last / first) ** 0.06 || 1.1;
    const xs = state.log
      ? logScale([first / Math.max(edge, 1.05), last * Math.max(edge, 1.05)], [box.left, box.right])
      : linearScale([0, last * 1.05], [box.left, box.right]);
    const ys = linearScale([low - span * 0.06, high + span * 0.06], [box.bottom, box.top]);
    rd.xs = xs;
    rd.ys = ys;
    axes(svg, box, xs, ys, X_TITLES[state.x] + (state.log ? ", log" : ""), unit ? `${label}, ${unit}` : label);
    if (drawn) {
      svg.append(
        sv("line", { class: "ceiling", x1: box.left, x2: box.right, y1: ys(ceiling), y2: ys(ceiling) }),
        sv("text", { x: box.right, y: ys(ceiling) - 6, "text-anchor": "end" }, "4:2:0, uncompressed"),
      );
    }
    for (const curve of [...rd.curves].sort((a, b) => order(a) - order(b))) {
      const path = curve.at.map((p, i) => `${i ? "L" : "M"}${xs(p.x).toFixed(1)},${ys(p.y).toFixed(1)}`).join("");
      svg.append(
        sv(
          "g",
          {
            class: `curve ${curve.kind}`,
            "data-key": curve.key,
            "--c": curve.kind === "published" ? "var(--paper)" : colour(curve.series),
          },
          sv("path", { class: `line ${curve.kind}`, d: path }),
          curve.at.map((p) => marker(curve.series, xs(p.x), ys(p.y), curve.kind)),
        ),
      );
    }
  } else {
    svg.append(
      sv("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "Nothing to show: no curve has these two."),
    );
  }
  rd.ring = sv("circle", { class: "ring", r: 9, visibility: "hidden" });
  svg.append(rd.ring);
  rd.tip = el("div", { class: "tip", hidden: true });
  chart.replaceChildren(svg, rd.tip);
  rdShow(null);
  rdLegend(curves);
  rdNote(ceiling, drawn);
}
const order = (curve) => ({ published: 0, anchor: 1, neural: 2 })[curve.kind];

function rdLegend(curves) {
  byId("rd-legend").replaceChildren(
    ...curves.map((curve) => {
      const flip = () => {
        if (!state.off.delete(curve.key)) state.off.add(curve.key);
        const index = [...byId("rd-legend").children].indexOf(document.activeElement);
        rdDraw();
        byId("rd-legend").children[index]?.focus();
      };
      const pick = (on) => () => rdPick(on ? curve.key : null);
      return el(
        "button",
        {
          class: "chip",
          type: "button",
          "aria-pressed": String(!state.off.has(curve.key)),
          title: curve.source,
          onclick: flip,
          onpointerenter: pick(true),
          onpointerleave: pick(false),
        },
        swatch(curve.series, curve.kind),
        el("span", { class: "text" }, curve.label),
        curve.detail && el("small", {}, curve.detail),
      );
    }),
  );
}
function rdPick(key) {
  const chart = byId("rd-chart");
  chart.classList.toggle("picking", key !== null && !state.off.has(key));
  for (const curve of chart.querySelectorAll(".curve")) curve.classList.toggle("picked", curve.dataset.key === key);
}

function rdNote(ceiling, drawn) {
  const lines = [];
  if (typeof ceiling === "number") {
    lines.push(
      `The source’s own 4:2:0 planes, uncompressed, have ${number(ceiling, 2)} dB PSNR RGB: no 4:2:0 codec can show more${drawn ? " (dotted line)" : " (off the chart)"}.`,
    );
  }
  const others = new Set(
    clip()
      .published.filter((c) => c.x !== state.x || c.metric !== state.metric)
      .map((c) => `${metrics[c.metric].label} over ${X_TITLES[c.x]}`),
  );
  const here = clip().published.some((c) => c.x === state.x && c.metric === state.metric);
  if (here) lines.push("Dashed curves are published figures, not measurements of this run.");
  else if (others.size) lines.push(`Published curves exist for ${listed([...others])}.`);
  byId("rd-note").textContent = lines.join(" ");
}

function rdPoint(event) {
  const bounds = byId("rd-chart").getBoundingClientRect();
  const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
  let best = null;
  rd.curves.forEach((curve, c) =>
    curve.at.forEach((p, i) => {
      const far = Math.hypot(rd.xs(p.x) - x, rd.ys(p.y) - y);
      if (far < 50 && (!best || far < best.far)) best = { far, c, i };
    }),
  );
  rdShow(best);
}
function rdKey(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (event.key === "Escape") rdShow(null);
  if (!step || !rd.curves.length) return;
  event.preventDefault();
  const { c, i } = rd.shown ? { c: rd.shown.c + step[0], i: rd.shown.i + step[1] } : { c: 0, i: 0 };
  const curve = (c + rd.curves.length) % rd.curves.length;
  rdShow({ c: curve, i: Math.max(0, Math.min(i, rd.curves[curve].at.length - 1)) });
  byId("live").textContent = rd.tip.textContent;
}
function rdShow(found) {
  rd.shown = found;
  rd.tip.hidden = !found;
  rd.ring.setAttribute("visibility", found ? "visible" : "hidden");
  rdPick(found ? rd.curves[found.c].key : null);
  if (!found) return;
  const curve = rd.curves[found.c];
  const { x, y, point } = curve.at[found.i];
  rd.ring.setAttribute("cx", rd.xs(x));
  rd.ring.setAttribute("cy", rd.ys(y));
  const row = (name, value) => el("div", { class: "row" }, el("span", {}, name), " ", el("b", {}, value));
  const rows = point
    ? [
        row("bytes", number(point.bytes)),
        row("bpp", number(point.bpp, 4)),
        row("kbit/s", number(point.kbps, 1)),
        point.parameters && row("parameters", count(point.parameters)),
      ]
    : [row(state.x, state.x === "parameters" ? count(x) : plain(x))];
  rd.tip.replaceChildren(
    el("div", {}, el("b", {}, curve.label), " ", point ? point.point : curve.detail),
    row(metrics[state.metric].label, measure(state.metric, y)),
    ...rows.filter(Boolean),
    ...(point ? [] : [el("small", {}, curve.source), curve.note ? el("small", {}, curve.note) : ""]),
  );
  place(rd.tip, byId("rd-chart"), rd.xs(x), rd.ys(y));
}

/** A table with a row for every point, grouped by codec. Columns are [title, value, dim?]. */
function pointTable(points, columns, name = (point) => point.point) {
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "codec"),
    el("th", { scope: "col" }, "point"),
    columns.map(([title]) => el("th", { scope: "col", class: "n" }, title)),
  );
  const bodies = groups(points).map(([series, of]) =>
    el(
      "tbody",
      {},
      of.map((point, i) =>
        el(
          "tr",
          {},
          i === 0 && el("th", { scope: "rowgroup", rowspan: of.length }, spot(series), " ", data.series[series].label),
          el("td", {}, name(point)),
          columns.map(([, value, dim]) => el("td", { class: dim && dim(point) ? "n dim" : "n" }, value(point))),
        ),
      ),
    ),
  );
  return el("table", {}, el("thead", {}, head), bodies);
}

function rdTable() {
  byId("rd-table").replaceChildren(
    pointTable(clip().points, [
      ["bytes", (p) => number(p.bytes)],
      ["bpp", (p) => number(p.bpp, 4)],
      ["kbit/s", (p) => number(p.kbps, 1)],
      ...data.metrics.map((m) => [m.label, (p) => number(p.measures[m.key], m.digits)]),
    ]),
  );
}

// Bjøntegaard deltas.

const bd = { method: "pchip", what: "rate", anchor: null };

function bdControls() {
  const anchors = [...new Set(clip().bd.map((c) => c.anchor))];
  if (!anchors.includes(bd.anchor)) bd.anchor = anchors.find((a) => a.startsWith("x265")) || anchors[0];
  byId("bd-controls").replaceChildren(
    ...(anchors.length
      ? [
          chooser(
            "Anchor",
            anchors.map((a) => [a, a]),
            bd.anchor,
            (a) => {
              bd.anchor = a;
              bdDraw();
            },
          ),
          segments(
            "Delta",
            [
              ["rate", "BD-rate"],
              ["quality", "BD-quality"],
            ],
            bd.what,
            (w) => {
              bd.what = w;
              bdDraw();
            },
          ),
          segments(
            "Interpolation",
            [
              ["pchip", "PCHIP"],
              ["akima", "Akima"],
            ],
            bd.method,
            (m) => {
              bd.method = m;
              bdDraw();
            },
          ),
        ]
      : []),
  );
}

function bdCell(delta, metric, detail) {
  if (typeof delta.value !== "number")
    return el("td", { class: "none" }, "none", el("small", {}, delta.refused || "in no clip"));
  const good = bd.what === "rate" ? delta.value < 0 : delta.value > 0;
  const thin = delta.overlap < data.thin;
  const { digits, unit } = metrics[metric];
  const text = bd.what === "rate" ? percent(delta.value) : signed(delta.value, digits) + (unit && ` ${unit}`);
  return el(
    "td",
    { class: `${good ? "good" : "bad"} ${thin ? "thin" : ""}` },
    el("b", {}, text),
    el("small", {}, detail, thin && el("span", { class: "badge" }, "thin")),
  );
}
const overlapText = (overlap) => `${overlap < 0.01 ? "under 1" : Math.round(overlap * 100)} % overlap `;

function bdTable(rows, detail) {
  const tests = [...new Set(rows.map((c) => c.test))];
  const series = (label) => data.series.findIndex((s) => s.label === label);
  return el(
    "table",
    { class: "bd" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, `against ${bd.anchor}`),
        data.bdMetrics.map((m) => el("th", { scope: "col" }, metrics[m].label)),
      ),
    ),
    el(
      "tbody",
      {},
      tests.map((test) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, spot(series(test)), " ", test),
          data.bdMetrics.map((m) => {
            const found = rows.find((c) => c.test === test && c.metric === m);
            return bdCell(found[bd.what], m, detail(found));
          }),
        ),
      ),
    ),
  );
}

function bdDraw() {
  byId("bd-sub").textContent =
    bd.what === "rate"
      ? "Bytes for the same quality, compared with the anchor: below zero saves bytes, above zero needs more."
      : "Quality for the same bytes, compared with the anchor: above zero is better.";
  const rows = clip().bd.filter((c) => c.anchor === bd.anchor && c.method === bd.method);
  byId("bd-table").replaceChildren(
    rows.length
      ? bdTable(rows, (c) => overlapText(c[bd.what].overlap))
      : el("p", { class: "aside" }, "The run holds no anchor, or nothing to compare with it."),
  );
  const means = data.means.filter((c) => c.anchor === bd.anchor && c.method === bd.method);
  byId("bd-means").replaceChildren(
    ...(means.length
      ? [
          el("h3", {}, "Mean over clips"),
          el(
            "div",
            { class: "scroll" },
            bdTable(
              means,
              (c) =>
                `${c[bd.what].clips} of ${c.clips} clips, ${overlapText(c[bd.what].overlap).replace("overlap", "overlap at least")}`,
            ),
          ),
        ]
      : []),
  );
  const leftOut = clip().leftOut.length ? ` Left out: ${clip().leftOut.join("; ")}.` : "";
  byId("bd-note").textContent = rows.length
    ? `“Thin”: the two curves share under ${Math.round(data.thin * 100)} % of their range, so the number speaks for little of them.${leftOut}`
    : "";
}

// The viewer.

const view = { pairing: "rate", mode: "slider", between: "ab", flip: 0, gain: "8", zoom: "fit", at: 50 };
const imageText = (index) => byId(`image-${index}`).textContent;
const imageCache = new Map();

/** A decoded picture; the last few are kept. */
function picture(index) {
  if (!imageCache.has(index)) {
    const image = new Image();
    image.src = `data:image/webp;base64,${imageText(index)}`;
    if (imageCache.size > 24) imageCache.delete(imageCache.keys().next().value);
    imageCache.set(index, image);
  }
  return imageCache.get(index).cloneNode();
}

const viewable = (frame) => clip().points.filter((p) => frame in p.shots);
const viewFrames = () => Object.keys(clip().shots).filter((f) => viewable(f).length > 0);
const distance = {
  rate: (a, b) => Math.abs(Math.log(a.bytes / b.bytes)),
  quality: (a, b) => Math.abs(a.measures.psnr_rgb - b.measures.psnr_rgb),
};

function viewerSetup() {
  const frames = viewFrames();
  const box = byId("viewer");
  if (!frames.length) {
    view.a = view.b = null;
    box.replaceChildren(el("p", { class: "aside" }, "The run folder holds no frames of this clip to show."));
    return;
  }
  view.frame = frames[Math.floor(frames.length / 2)];
  const points = viewable(view.frame);
  const neural = points.filter((p) => p.kind === "neural");
  view.a = neural.length
    ? neural[Math.floor(neural.filter((p) => p.series === neural[0].series).length / 2)]
    : points[0];
  const others = points.filter((p) => p.series !== view.a.series);
  const anchor =
    others.find((p) => p.kind === "anchor" && labelOf(p).startsWith("x265")) ||
    others.find((p) => p.kind === "anchor") ||
    others[0] ||
    view.a;
  view.pairSeries = anchor.series;
  const index = (p) => String(clip().points.indexOf(p));
  const told = (p) => [index(p), `${p.point} · ${number(p.bytes)} bytes`];
  const grouped = () =>
    groups(viewable(view.frame)).map(([s, of]) => [
      data.series[s].label,
      of.map((p) => [index(p), `${labelOf(p)} ${p.point} · ${number(p.bytes)} bytes`]),
    ]);
  const pointsOfPair = () =>
    viewable(view.frame)
      .filter((p) => p.series === view.pairSeries)
      .map(told);
  const seriesOptions = () => groups(viewable(view.frame)).map(([s]) => [String(s), data.series[s].label]);

  const ui = (view.ui = {});
  ui.a = chooser("A", grouped(), index(view.a), (v) => {
    view.a = clip().points[v];
    rematch();
    viewerDraw();
  });
  ui.pairing = segments(
    "Pair B with A",
    [
      ["rate", "at matched rate"],
      ["quality", "at matched quality"],
      ["free", "freely"],
    ],
    view.pairing,
    (v) => {
      view.pairing = v;
      rematch();
      viewerDraw();
    },
  );
  ui.series = chooser("B", seriesOptions(), String(view.pairSeries), (v) => {
    view.pairSeries = Number(v);
    rematch(true);
    viewerDraw();
  });
  ui.b = chooser("Point of B", [], "", (v) => {
    view.b = clip().points[v];
    view.pairing = "free";
    ui.pairing.set("free");
    viewerDraw();
  });
  ui.frame = segments(
    "Frame",
    frames.map((f) => [f, f]),
    view.frame,
    (f) => viewerFrame(f),
  );
  ui.mode = segments(
    "Show",
    [
      ["slider", "slider"],
      ["flip", "flip"],
      ["difference", "difference"],
      ["side", "side by side"],
    ],
    view.mode,
    (m) => {
      view.mode = m;
      viewerDraw();
    },
  );
  ui.between = segments(
    "Between",
    [
      ["ab", "A | B"],
      ["oa", "original | A"],
      ["ob", "original | B"],
    ],
    view.between,
    (b) => {
      view.between = b;
      viewerDraw();
    },
  );
  ui.flip = segments(
    "Showing",
    [
      ["0", "original"],
      ["1", "A"],
      ["2", "B"],
    ],
    String(view.flip),
    (f) => {
      view.flip = Number(f);
      viewerFlip();
    },
  );
  ui.gain = chooser(
    "Amplified",
    ["1", "2", "4", "8", "16", "32"].map((n) => [n, `× ${n}`]),
    view.gain,
    (n) => {
      view.gain = n;
      viewerDraw();
    },
  );
  ui.zoom = segments(
    "Zoom",
    [
      ["fit", "fit"],
      ["1", "1:1"],
      ["2", "2:1"],
      ["4", "4:1"],
    ],
    view.zoom,
    (z) => {
      view.zoom = z;
      viewerDraw();
    },
  );
  ui.stages = el("div", { class: "stages" });
  ui.keys = el("p", { class: "aside" });
  ui.match = el("p", { class: "aside" });
  ui.cards = el("div", { class: "cards" });
  box.replaceChildren(
    el("div", { class: "controls" }, ui.a, ui.pairing, ui.series, ui.b),
    el("div", { class: "controls" }, ui.frame, ui.mode, ui.between, ui.flip, ui.gain, ui.zoom),
    ui.stages,
    ui.keys,
    ui.cards,
    ui.match,
  );

  function rematch(newSeries) {
    const candidates = viewable(view.frame).filter((p) => p.series === view.pairSeries);
    const others = candidates.filter((p) => p !== view.a);
    const by = distance[view.pairing === "free" ? "rate" : view.pairing];
    if (view.pairing !== "free" || newSeries || !candidates.includes(view.b)) {
      view.b = (others.length ? others : candidates).reduce((best, p) => (by(p, view.a) < by(best, view.a) ? p : best));
    }
    ui.b.refill(pointsOfPair(), index(view.b));
  }
  view.rematch = () => {
    const here = viewable(view.frame);
    if (!here.includes(view.a)) view.a = here[0];
    if (!here.some((p) => p.series === view.pairSeries))
      view.pairSeries = (here.find((p) => p !== view.a) || view.a).series;
    ui.a.refill(grouped(), index(view.a));
    ui.series.refill(seriesOptions(), String(view.pairSeries));
    rematch();
  };
  view.rematch();
  viewerDraw();
}

function viewerFrame(frame) {
  view.frame = frame;
  view.ui.frame.set(frame);
  view.rematch();
  viewerDraw();
}

const imageOf = (who) => (who === "o" ? clip().shots[view.frame] : (who === "a" ? view.a : view.b).shots[view.frame]);
const titleOf = (who) => (who === "o" ? "original" : `${who.toUpperCase()} · ${nameOf(who === "a" ? view.a : view.b)}`);

/** The size that a frame is shown at, with `columns` of them beside each other. */
function sheetSize(columns) {
  const { width, height } = clip().source;
  if (view.zoom !== "fit") {
    const scale = Number(view.zoom) / (window.devicePixelRatio || 1);
    return [width * scale, height * scale];
  }
  const beside = getComputedStyle(view.ui.stages).gridTemplateColumns.split(" ").length;
  const room = (view.ui.stages.clientWidth - 13 * (Math.min(columns, beside) - 1)) / Math.min(columns, beside);
  const scale = Math.min(room / width, (window.innerHeight * 0.78) / height);
  return [width * scale, height * scale];
}

function sheet(size, ...children) {
  const made = el("div", { class: `sheet ${size[0] < clip().source.width ? "smooth" : ""}` }, ...children);
  made.style.width = `${size[0]}px`;
  made.style.height = `${size[1]}px`;
  return made;
}

function viewerDraw() {
  const { ui } = view;
  const scrolled = ui.stages.querySelector(".stage");
  const [left, top] = scrolled ? [scrolled.scrollLeft, scrolled.scrollTop] : [0, 0];
  ui.between.hidden = view.mode !== "slider";
  ui.flip.hidden = view.mode !== "flip";
  ui.gain.hidden = view.mode !== "difference";
  const columns = { slider: 1, flip: 1, difference: 2, side: 3 }[view.mode];
  ui.stages.className = `stages ${["", "", "two", "three"][columns]}`;
  ui.stages.replaceChildren(
    ...{ slider: viewerSlider, flip: viewerFlips, difference: viewerDifference, side: viewerSides }[view.mode](columns),
  );
  const more = Object.keys(clip().shots).length > 1 ? " Up and down change the frame." : "";
  ui.keys.textContent =
    {
      slider: "Drag, or use the left and right arrow keys on the picture.",
      flip: "Click, or use the left and right arrow keys on the picture.",
      difference: `The absolute difference to the original, times ${view.gain}; black is equal.`,
      side: "",
    }[view.mode] + more;
  const stages = [...ui.stages.querySelectorAll(".stage")];
  for (const stage of stages) {
    stage.scrollLeft = left;
    stage.scrollTop = top;
    stage.addEventListener("scroll", () => {
      for (const other of stages) {
        if (other === stage) continue;
        if (other.scrollLeft !== stage.scrollLeft) other.scrollLeft = stage.scrollLeft;
        if (other.scrollTop !== stage.scrollTop) other.scrollTop = stage.scrollTop;
      }
    });
  }
  viewerCards();
  if (!frames.own) framesDefault();
}

function stageKeys(sideways) {
  return (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const frame = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by && !frame) return;
    event.preventDefault();
    if (by) {
      sideways(by, event.shiftKey);
      return;
    }
    const all = viewFrames();
    viewerFrame(all[(all.indexOf(view.frame) + frame + all.length) % all.length]);
    view.ui.stages.querySelector(".stage").focus();
  };
}

function viewerSlider() {
  const [first, second] = { ab: ["a", "b"], oa: ["o", "a"], ob: ["o", "b"] }[view.between];
  const over = picture(imageOf(first));
  const divider = el("div", { class: "divider" });
  const stage = el("div", {
    class: "stage",
    tabindex: 0,
    role: "slider",
    "aria-label": `Divider between ${titleOf(first)} and ${titleOf(second)}`,
    "aria-valuemin": 0,
    "aria-valuemax": 100,
  });
  const board = sheet(
    sheetSize(1),
    picture(imageOf(second)),
    over,
    divider,
    el("span", { class: "tag" }, titleOf(first)),
    el("span", { class: "tag" }, titleOf(second)),
  );
  board.children[3].style.left = "8px";
  board.children[4].style.right = "8px";
  const set = (at) => {
    view.at = Math.max(0, Math.min(100, at));
    over.style.clipPath = `inset(0 ${100 - view.at}% 0 0)`;
    divider.style.left = `${view.at}%`;
    stage.setAttribute("aria-valuenow", Math.round(view.at));
    stage.setAttribute("aria-valuetext", `${Math.round(view.at)} % ${titleOf(first)}`);
  };
  const drag = (event) => {
    const bounds = board.getBoundingClientRect();
    set(((event.clientX - bounds.left) / bounds.width) * 100);
  };
  const grab = view.zoom === "fit" ? board : divider;
  if (view.zoom === "fit") board.style.touchAction = "pan-y";
  grab.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    stage.focus({ preventScroll: true });
    grab.setPointerCapture(event.pointerId);
    drag(event);
  });
  grab.addEventListener("pointermove", (event) => {
    if (grab.hasPointerCapture(event.pointerId)) drag(event);
  });
  stage.addEventListener(
    "keydown",
    stageKeys((by, far) => set(view.at + by * (far ? 10 : 2))),
  );
  set(view.at);
  stage.append(board);
  return [stage];
}

function viewerFlips() {
  const who = ["o", "a", "b"];
  const turn = (by) => {
    view.flip = (view.flip + by + 3) % 3;
    view.ui.flip.set(view.flip);
    viewerFlip();
  };
  const tag = el("span", { class: "tag" });
  tag.style.left = "8px";
  const stage = el(
    "div",
    {
      class: "stage",
      tabindex: 0,
      role: "button",
      onclick: () => turn(1),
      onkeydown: (event) => {
        if (event.key === " " || event.key === "Enter") {
          event.preventDefault();
          turn(1);
        }
      },
    },
    sheet(
      sheetSize(1),
      who.map((w) => picture(imageOf(w))),
      tag,
    ),
  );
  stage.addEventListener("keydown", stageKeys(turn));
  viewerFlip(stage);
  return [stage];
}
function viewerFlip(stage = view.ui.stages.querySelector(".stage")) {
  const who = ["o", "a", "b"][view.flip];
  // Visibility, not display: a picture that is laid out is decoded and shows at once.
  stage.querySelectorAll("img").forEach((image, i) => {
    image.style.visibility = i === view.flip ? "visible" : "hidden";
  });
  stage.querySelector(".tag").textContent = titleOf(who);
  stage.setAttribute("aria-label", `Showing ${titleOf(who)}`);
}

function viewerSides(columns) {
  const size = sheetSize(columns);
  return ["o", "a", "b"].map((who) => {
    const image = picture(imageOf(who));
    image.alt = titleOf(who);
    return el(
      "figure",
      {},
      el("figcaption", {}, titleOf(who)),
      el(
        "div",
        { class: "stage", tabindex: 0, role: "group", "aria-label": titleOf(who), onkeydown: stageKeys(() => {}) },
        sheet(size, image),
      ),
    );
  });
}

function viewerDifference(columns) {
  const size = sheetSize(columns);
  return ["a", "b"].map((who) => {
    const { width, height } = clip().source;
    const canvas = el("canvas", {
      width,
      height,
      role: "img",
      "aria-label": `Difference of ${titleOf(who)} to the original, times ${view.gain}`,
    });
    drawDifference(canvas, imageOf("o"), imageOf(who), Number(view.gain));
    return el(
      "figure",
      {},
      el("figcaption", {}, `${titleOf(who)}, difference × ${view.gain}`),
      el(
        "div",
        { class: "stage", tabindex: 0, role: "group", "aria-label": titleOf(who), onkeydown: stageKeys(() => {}) },
        sheet(size, canvas),
      ),
    );
  });
}
async function pixels(index, width, height) {
  const image = picture(index);
  await image.decode();
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height);
}
async function drawDifference(canvas, original, decoded, gain) {
  const { width, height } = canvas;
  const [from, to] = await Promise.all([pixels(original, width, height), pixels(decoded, width, height)]);
  for (let i = 0; i < to.data.length; i += 4) {
    for (let c = i; c < i + 3; c++) to.data[c] = Math.abs(to.data[c] - from.data[c]) * gain;
  }
  canvas.getContext("2d").putImageData(to, 0, 0);
}

function viewerCards() {
  const { a, b } = view;
  const card = (title, rows) =>
    el(
      "div",
      { class: "card" },
      el("h3", {}, title),
      el(
        "dl",
        {},
        rows.map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)]),
      ),
    );
  const shown = (p) => [
    ["bytes", number(p.bytes)],
    ["bpp", number(p.bpp, 4)],
    [`PSNR, frame ${view.frame}`, measure("psnr_rgb", p.per_frame.psnr_rgb?.[view.frame])],
    ["PSNR, all frames", measure("psnr_rgb", p.measures.psnr_rgb)],
  ];
  const { width, height, frames } = clip().source;
  const raw = width * height * frames * 3;
  view.ui.cards.replaceChildren(
    card(
      ["Original"],
      [
        ["frame", `${view.frame} of ${frames}`],
        ["size", `${width}×${height}`],
        ["raw RGB bytes", number(raw)],
      ],
    ),
    card([spot(a.series), `A · ${nameOf(a)}`], shown(a)),
    card([spot(b.series), `B · ${nameOf(b)}`], shown(b)),
  );
  const bytes = (b.bytes / a.bytes - 1) * 100;
  const dB = b.measures.psnr_rgb - a.measures.psnr_rgb;
  const against = `B has ${number(Math.abs(bytes), 1)} % ${bytes < 0 ? "fewer" : "more"} bytes than A and ${number(Math.abs(dB), 2)} dB ${dB < 0 ? "less" : "more"} PSNR RGB over all frames.`;
  const far = (view.pairing === "rate" && Math.abs(bytes) > 10) || (view.pairing === "quality" && Math.abs(dB) > 0.5);
  const nearest = {
    rate: "It is the nearest in bytes of the measured points. ",
    quality: "It is the nearest in PSNR RGB of the measured points. ",
    free: "",
  }[view.pairing];
  view.ui.match.replaceChildren(
    `${against} ${nearest}`,
    far ? el("span", { class: "warn" }, "That is not close: judge the pair with care.") : "",
  );
}

// Frame by frame.

const frames = { own: false, chosen: new Set(), cursor: null };
const DASHES = [null, "7 4", "2 4", "9 3 2 3"];

function framesSetup() {
  frames.own = false;
  const per = data.metrics.filter((m) => clip().points.some((p) => p.per_frame[m.key]?.some((v) => v !== null)));
  if (!per.some((m) => m.key === state.frameMetric)) state.frameMetric = per[0]?.key;
  byId("frames-controls").replaceChildren(
    chooser(
      "Quality",
      per.map((m) => [m.key, m.label]),
      state.frameMetric,
      (m) => {
        state.frameMetric = m;
        framesDraw();
      },
    ),
  );
  if (view.a) framesDefault();
  else {
    frames.chosen = new Set(
      groups(clip().points)
        .slice(0, 2)
        .map(([, of]) => of[0]),
    );
    framesPick();
    framesDraw();
  }
}
function framesDefault() {
  frames.chosen = new Set([view.a, view.b]);
  framesPick();
  framesDraw();
}
function framesPick() {
  byId("frames-points").replaceChildren(
    el(
      "div",
      { class: "picks" },
      groups(clip().points).map(([series, of]) =>
        el(
          "div",
          { role: "group", "aria-label": data.series[series].label },
          el("span", {}, spot(series), " ", data.series[series].label),
          el(
            "span",
            { class: "of" },
            of.map((point) => {
              const input = el("input", {
                type: "checkbox",
                checked: frames.chosen.has(point),
                onchange: () => {
                  frames.own = true;
                  if (input.checked) frames.chosen.add(point);
                  else frames.chosen.delete(point);
                  framesDraw();
                },
              });
              return el("label", {}, input, point.point);
            }),
          ),
        ),
      ),
    ),
  );
}

function framesDraw() {
  const chart = byId("frames-chart");
  const width = Math.max(260, chart.clientWidth);
  const height = width < 560 ? 230 : 270;
  const box = { left: 44, right: width - 14, top: 26, bottom: height - 44 };
  const svg = sv("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const key = state.frameMetric;
  const nth = new Map();
  frames.lines = clip()
    .points.filter((p) => frames.chosen.has(p) && p.per_frame[key]?.some((v) => v !== null))
    .map((point) => {
      const n = nth.get(point.series) || 0;
      nth.set(point.series, n + 1);
      return { point, values: point.per_frame[key], dash: DASHES[n % DASHES.length] };
    });
  const values = frames.lines.flatMap((l) => l.values).filter((v) => v !== null);
  const last = Math.max(1, clip().source.frames - 1);
  frames.xs = linearScale([0, last], [box.left, box.right]);
  frames.last = clip().source.frames - 1;
  frames.ys = null;
  if (values.length) {
    const [low, high] = range(values);
    const room = (high - low || 1) * 0.08;
    const ys = (frames.ys = linearScale([low - room, high + room], [box.bottom, box.top]));
    const { label, unit } = metrics[key];
    axes(svg, box, frames.xs, ys, "frame", unit ? `${label}, ${unit}` : label);
    for (const { point, values: of, dash } of frames.lines) {
      let pen = "M";
      const path = of
        .map((v, i) => {
          if (v === null) {
            pen = "M";
            return "";
          }
          const step = `${pen}${frames.xs(i).toFixed(1)},${ys(v).toFixed(1)}`;
          pen = "L";
          return step;
        })
        .join("");
      svg.append(
        sv("path", {
          class: `line ${data.series[point.series].kind}`,
          d: path,
          "stroke-dasharray": dash,
          "--c": colour(point.series),
        }),
      );
    }
  } else svg.append(sv("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "No point is chosen."));
  frames.line = sv("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
  svg.append(frames.line);
  frames.tip = el("div", { class: "tip", hidden: true });
  chart.replaceChildren(svg, frames.tip);
  chart.setAttribute("aria-label", `${metrics[key]?.label} of every frame, ${frames.lines.length} points`);
  byId("frames-legend").replaceChildren(
    ...frames.lines.map(({ point, dash }) =>
      el(
        "span",
        { class: "chip" },
        swatch(point.series, data.series[point.series].kind, dash),
        nameOf(point),
        el("small", {}, `mean ${measure(key, point.measures[key])}`),
      ),
    ),
  );
}
function framesControls() {
  const chart = byId("frames-chart");
  chart.tabIndex = 0;
  chart.setAttribute("role", "application");
  chart.setAttribute("aria-roledescription", "chart; left and right go from frame to frame");
  const point = (event) => {
    const x = event.clientX - chart.getBoundingClientRect().left;
    const [from, to] = [frames.xs(0), frames.xs(Math.max(1, frames.last))];
    framesShow(Math.max(0, Math.min(frames.last, Math.round(((x - from) / (to - from)) * Math.max(1, frames.last)))));
  };
  chart.addEventListener("pointermove", point);
  chart.addEventListener("pointerdown", point);
  chart.addEventListener("pointerleave", () => framesShow(null));
  chart.addEventListener("blur", () => framesShow(null));
  chart.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (!by) return;
    event.preventDefault();
    framesShow(Math.max(0, Math.min(frames.last, (frames.cursor ?? -1) + by)));
    byId("live").textContent = frames.tip.textContent;
  });
}
function framesShow(index) {
  frames.cursor = index;
  const shown = index !== null && frames.ys !== null;
  frames.tip.hidden = !shown;
  frames.line.setAttribute("visibility", shown ? "visible" : "hidden");
  if (!shown) return;
  const x = frames.xs(index);
  frames.line.setAttribute("x1", x);
  frames.line.setAttribute("x2", x);
  frames.tip.replaceChildren(
    el("b", {}, `Frame ${index}`),
    ...frames.lines.map(({ point, values, dash }) =>
      el(
        "div",
        { class: "row" },
        el("span", {}, swatch(point.series, data.series[point.series].kind, dash), nameOf(point)),
        " ",
        el("b", {}, measure(state.frameMetric, values[index])),
      ),
    ),
  );
  place(frames.tip, byId("frames-chart"), x, 90);
}

// Bytes.

function bytesDraw() {
  const points = clip().points.filter((p) => p.kind === "neural" && p.bytes_by_part);
  byId("bytes-section").hidden = !points.length;
  const names = [...new Set(points.flatMap((p) => Object.keys(p.bytes_by_part)))];
  names.sort((a, b) => total(b) - total(a));
  function total(name) {
    return points.reduce((sum, p) => sum + (p.bytes_by_part[name] || 0), 0);
  }
  byId("bytes").replaceChildren(
    el(
      "div",
      { class: "bytes" },
      points.map((point) => {
        const parts = names
          .filter((name) => point.bytes_by_part[name])
          .map((name) => ({ name, bytes: point.bytes_by_part[name], c: `var(--p${names.indexOf(name) % 6})` }));
        const sum = parts.reduce((s, p) => s + p.bytes, 0) || 1;
        return el(
          "div",
          {},
          el(
            "div",
            { class: "head" },
            el("span", {}, spot(point.series), " ", nameOf(point)),
            el("span", {}, `${number(point.bytes)} bytes`),
          ),
          el(
            "div",
            { class: "bar", "aria-hidden": "true" },
            parts.map((p) => {
              const i = el("i", { "--c": p.c, title: p.name });
              i.style.flex = `${p.bytes} 0 0`;
              return i;
            }),
          ),
          el(
            "ul",
            { class: "parts" },
            parts.map((p) =>
              el(
                "li",
                {},
                el("i", { "--c": p.c }),
                `${p.name} ${number(p.bytes)} (${number((p.bytes / sum) * 100, 1)} %)`,
              ),
            ),
          ),
        );
      }),
    ),
  );
}

// Cost.

function costDraw() {
  const { points } = clip();
  const shared = (p) => p.alone === false;
  const pace = (fps) => short(fps);
  const device = (p) => (p.machine?.gpu && p.device !== "cpu" ? p.machine.gpu : p.machine?.cpu || p.device || NOTHING);
  byId("cost-table").replaceChildren(
    pointTable(
      points,
      [
        ["encode", (p) => time(p.encode_seconds), shared],
        ["encode fps", (p) => pace(p.encode_fps), shared],
        ["decode fps", (p) => pace(p.decode_fps), shared],
        ["and write, fps", (p) => pace(p.decode_write_seconds ? p.frames / p.decode_write_seconds : null), shared],
        ["peak memory", (p) => memory(p.peak_memory?.encode)],
        ["decoding", (p) => memory(p.peak_memory?.decode)],
        ["on device", (p) => memory(p.device_memory)],
        ["MAC / pixel", (p) => (typeof p.macs_per_pixel === "number" ? number(p.macs_per_pixel) : NOTHING)],
        ["device", (p) => p.device || NOTHING],
      ],
      (p) => (shared(p) ? [p.point, " ", el("span", { class: "badge" }, "shared")] : p.point),
    ),
  );
  const machines = [
    ...new Set(
      points.map((p) => `${p.device}: ${device(p)}${p.machine?.threads ? `, ${p.machine.threads} threads` : ""}`),
    ),
  ];
  const told = points.some(shared) ? " “Shared” rows ran beside other work: their times are not comparable." : "";
  byId("cost-note").textContent =
    `Decoding is from the file to frames in memory, then once more with writing to disk. ${machines.join("; ")}.${told}`;
}

// Foot.

const code = (text) => el("code", {}, text);
const facts = (pairs) =>
  pairs
    .filter(([, v]) => v !== null && v !== undefined && v !== "")
    .map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)]);
const pairs = (of) =>
  Object.entries(of || {})
    .filter(([, v]) => v !== null)
    .map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`)
    .join(", ");

function sourceDraw() {
  const { source } = clip();
  const { colour: c } = source;
  byId("source").replaceChildren(
    ...facts([
      [
        "Clip",
        `${clip().name}: ${source.frames} frames of ${source.width}×${source.height} at ${plain(source.fps)} a second`,
      ],
      ["Read from", code(source.path)],
      ["Dataset", source.dataset],
      ["Edit", pairs(source.edit)],
      ["Colours", `${c.matrix}, ${c.range} range, ${c.tagged ? "as tagged" : "untagged: assumed"}; ${c.pixel_format}`],
      ["Anchors encode", source.anchor_input],
      [
        "4:2:0 ceiling",
        typeof source.ceiling_psnr === "number" ? `${number(source.ceiling_psnr, 2)} dB PSNR RGB` : null,
      ],
      ["SHA-256 of the RGB frames", code(source.sha256 || NOTHING)],
      ["Notes", (source.notes || []).join("; ")],
    ]).flat(),
  );
}

function provenanceDraw() {
  byId("provenance").replaceChildren(
    ...groups(clip().points).flatMap(([series, of]) => [
      el(
        "h3",
        {},
        spot(series),
        ` ${data.series[series].label} `,
        profileOf(series) && el("small", { class: "badge" }, profileOf(series)),
      ),
      ...of.map((p) =>
        el(
          "details",
          { class: "point" },
          el(
            "summary",
            {},
            p.point,
            el("small", {}, `${number(p.bytes)} bytes, ${measure("psnr_rgb", p.measures.psnr_rgb)}`),
          ),
          el(
            "div",
            { class: "inside" },
            ["encode", "decode"]
              .filter((k) => p.commands?.[k])
              .map((k) => [el("span", { class: "aside" }, k), el("pre", {}, p.commands[k])]),
            el(
              "dl",
              { class: "facts" },
              facts([
                ["Setting", pairs(p.setting)],
                ["Seed", p.seed],
                ["Steps", p.steps ? number(p.steps) : null],
                ["Parameters", p.parameters ? number(p.parameters) : null],
                ["Versions", pairs(p.versions)],
                ["Machine", pairs(p.machine)],
                ["Device", p.device],
                ["Colours", [p.matrix, p.range && `${p.range} range`].filter(Boolean).join(", ")],
                ["VMAF model", p.vmaf_model],
                [
                  "Alone on the machine",
                  p.alone === undefined ? null : p.alone ? "yes" : "no: times are not comparable",
                ],
                ["SHA-256 of the source", p.source_sha256 && code(p.source_sha256)],
                ["Hash of the inputs", p.inputs && code(p.inputs)],
                ["Measured", p.created],
                ["Notes", (p.notes || []).join("; ")],
              ]),
            ),
          ),
        ),
      ),
    ]),
  );
}

// All.

function drawClip() {
  header();
  rdDraw();
  rdTable();
  bdControls();
  bdDraw();
  viewerSetup();
  framesSetup();
  bytesDraw();
  costDraw();
  sourceDraw();
  provenanceDraw();
}

// Means over other clips are no curve of this one: shown on request.
data.clips.forEach((c, i) =>
  c.published.forEach((curve, j) => {
    if (curve.mean) state.off.add(`p${i}/${j}`);
  }),
);
byId("notes").textContent = data.notes.join(" · ");
clipBar();
rdControls();
framesControls();
drawClip();
let known = document.documentElement.clientWidth;
new ResizeObserver(() => {
  const width = document.documentElement.clientWidth;
  if (width === known) return;
  known = width;
  rdDraw();
  framesDraw();
  if (view.a) viewerDraw();
}).observe(document.documentElement);
