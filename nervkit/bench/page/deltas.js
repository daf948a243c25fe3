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
    return el("td", { class: "none" }, "none", el("small", {}, delta.refused || "no clip has one"));
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
      ? "Change in bytes at equal quality against the anchor: negative values save bytes."
      : "Change in quality at equal bytes against the anchor: positive values are better.";
  const rows = clip().bd.filter((c) => c.anchor === bd.anchor && c.method === bd.method);
  byId("bd-table").replaceChildren(
    rows.length
      ? bdTable(rows, (c) => overlapText(c[bd.what].overlap))
      : el("p", { class: "aside" }, "The run has no anchor, or no other codec to compare."),
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
    ? `“Thin”: the two curves share less than ${Math.round(data.thin * 100)} % of their range.${leftOut}`
    : "";
}
