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
        [
          "decode and write, fps",
          (p) => pace(p.decode_write_seconds ? p.frames / p.decode_write_seconds : null),
          shared,
        ],
        ["peak, encode", (p) => memory(p.peak_memory?.encode)],
        ["peak, decode", (p) => memory(p.peak_memory?.decode)],
        ["on GPU", (p) => memory(p.device_memory)],
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
  const note = points.some(shared)
    ? " Rows marked “shared” ran beside other work: their times are not comparable."
    : "";
  byId("cost-note").textContent =
    `Decode fps is from the file to frames in memory; “decode and write” includes a y4m file. ${machines.join("; ")}.${note}`;
}
