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
  frames.xs = d3.scaleLinear([0, last], [box.left, box.right]);
  frames.last = clip().source.frames - 1;
  frames.ys = null;
  if (values.length) {
    const [low, high] = range(values);
    const room = (high - low || 1) * 0.08;
    const ys = (frames.ys = d3.scaleLinear([low - room, high + room], [box.bottom, box.top]));
    const { label, unit } = metrics[key];
    axes(svg, box, frames.xs, ys, "frame", unit ? `${label}, ${unit}` : label);
    const line = d3.line((_, i) => frames.xs(i), ys).defined((value) => value !== null);
    for (const { point, values: of, dash } of frames.lines) {
      svg.append(
        sv("path", {
          class: `line ${data.series[point.series].kind}`,
          d: line(of),
          "stroke-dasharray": dash,
          "--c": colour(point.series),
        }),
      );
    }
  } else svg.append(sv("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "No point is selected."));
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
  chart.setAttribute("aria-roledescription", "chart; left and right change the frame");
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
