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
        `${clip().name}: ${source.frames} frames of ${source.width}×${source.height} at ${plain(source.fps)} fps`,
      ],
      ["Read from", code(source.path)],
      ["Dataset", source.dataset],
      ["Edit", pairs(source.edit)],
      ["Colours", `${c.matrix}, ${c.range} range, ${c.tagged ? "tagged" : "assumed (untagged)"}; ${c.pixel_format}`],
      ["Judged by", metrics[data.psnr].label],
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
            el("small", {}, `${number(p.bytes)} bytes, ${measure(data.psnr, p.measures[data.psnr])}`),
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
                  p.alone === undefined ? null : p.alone ? "yes" : "no; times are not comparable",
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
