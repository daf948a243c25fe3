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
  chart.setAttribute("aria-roledescription", "chart; left and right move along a curve, up and down change the curve");
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
      detail: curve.mean ? "published, mean over dataset" : "published",
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
    const margin = Math.max((last / first) ** 0.06, 1.05);
    const xs = state.log
      ? d3.scaleLog([first / margin, last * margin], [box.left, box.right])
      : d3.scaleLinear([0, last * 1.05], [box.left, box.right]);
    const ys = d3.scaleLinear([low - span * 0.06, high + span * 0.06], [box.bottom, box.top]);
    rd.xs = xs;
    rd.ys = ys;
    axes(svg, box, xs, ys, X_TITLES[state.x] + (state.log ? ", log" : ""), unit ? `${label}, ${unit}` : label);
    if (drawn) {
      svg.append(
        sv("line", { class: "ceiling", x1: box.left, x2: box.right, y1: ys(ceiling), y2: ys(ceiling) }),
        sv("text", { x: box.right, y: ys(ceiling) - 6, "text-anchor": "end" }, "4:2:0, uncompressed"),
      );
    }
    const line = d3.line(
      (p) => xs(p.x),
      (p) => ys(p.y),
    );
    for (const curve of [...rd.curves].sort((a, b) => order(a) - order(b))) {
      svg.append(
        sv(
          "g",
          {
            class: `curve ${curve.kind}`,
            "data-key": curve.key,
            "--c": curve.kind === "published" ? "var(--paper)" : colour(curve.series),
          },
          sv("path", { class: `line ${curve.kind}`, d: line(curve.at) }),
          curve.at.map((p) => marker(curve.series, xs(p.x), ys(p.y), curve.kind)),
        ),
      );
    }
  } else {
    svg.append(
      sv("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "No curve has this metric on this axis."),
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
      `The anchors’ input (${clip().source.anchor_input}) has ${number(ceiling, 2)} dB PSNR RGB uncompressed${drawn ? " (dotted line)" : " (off the chart)"}.`,
    );
  }
  const others = new Set(
    clip()
      .published.filter((c) => c.x !== state.x || c.metric !== state.metric)
      .map((c) => `${metrics[c.metric].label} over ${X_TITLES[c.x]}`),
  );
  const here = clip().published.some((c) => c.x === state.x && c.metric === state.metric);
  if (here) lines.push("Dashed curves are published results, not measurements of this run.");
  else if (others.size) lines.push(`Published curves exist for ${listed([...others])}.`);
  byId("rd-note").textContent = lines.join(" ");
}

function rdPoint(event) {
  const bounds = byId("rd-chart").getBoundingClientRect();
  const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
  const points = rd.curves.flatMap((curve, c) =>
    curve.at.map((p, i) => ({ c, i, far: Math.hypot(rd.xs(p.x) - x, rd.ys(p.y) - y) })),
  );
  const nearest = d3.least(points, (p) => p.far);
  rdShow(nearest && nearest.far < 50 ? nearest : null);
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

/** A table with one row per point, grouped by codec. Columns are [title, value, dim?]. */
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
