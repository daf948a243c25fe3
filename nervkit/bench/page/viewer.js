// The viewer.

const view = { pairing: "rate", mode: "slider", between: "ab", flip: 0, gain: "8", zoom: "fit", at: 50 };
const imageText = (index) => byId(`image-${index}`).textContent;
const imageCache = new Map();

/** A decoded picture, from a small cache. */
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
  quality: (a, b) => Math.abs(a.measures[data.psnr] - b.measures[data.psnr]),
};

function viewerSetup() {
  const frames = viewFrames();
  const box = byId("viewer");
  if (!frames.length) {
    view.a = view.b = null;
    box.replaceChildren(el("p", { class: "aside" }, "The run folder has no viewer frames of this clip."));
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
  const option = (p) => [index(p), `${p.point} · ${number(p.bytes)} bytes`];
  const grouped = () =>
    groups(viewable(view.frame)).map(([s, of]) => [
      data.series[s].label,
      of.map((p) => [index(p), `${labelOf(p)} ${p.point} · ${number(p.bytes)} bytes`]),
    ]);
  const pointsOfPair = () =>
    viewable(view.frame)
      .filter((p) => p.series === view.pairSeries)
      .map(option);
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

/** The display size of a frame, with `columns` frames side by side. */
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
      difference: `The absolute difference from the original, times ${view.gain}. Black pixels are equal.`,
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
  // Visibility, not display: a picture in the layout is decoded already and appears at once.
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
      "aria-label": `Difference of ${titleOf(who)} from the original, times ${view.gain}`,
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
  const { label } = metrics[data.psnr];
  const shown = (p) => [
    ["bytes", number(p.bytes)],
    ["bpp", number(p.bpp, 4)],
    [`${label}, frame ${view.frame}`, measure(data.psnr, p.per_frame[data.psnr]?.[view.frame])],
    [`${label}, all frames`, measure(data.psnr, p.measures[data.psnr])],
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
  const dB = b.measures[data.psnr] - a.measures[data.psnr];
  const against = `B has ${number(Math.abs(bytes), 1)} % ${bytes < 0 ? "fewer" : "more"} bytes than A and ${number(Math.abs(dB), 2)} dB ${dB < 0 ? "less" : "more"} ${label} over all frames.`;
  const far = (view.pairing === "rate" && Math.abs(bytes) > 10) || (view.pairing === "quality" && Math.abs(dB) > 0.5);
  const nearest = {
    rate: "It is the measured point nearest in bytes. ",
    quality: `It is the measured point nearest in ${label}. `,
    free: "",
  }[view.pairing];
  view.ui.match.replaceChildren(
    `${against} ${nearest}`,
    far ? el("span", { class: "warn" }, "The two are not close: compare with care.") : "",
  );
}
