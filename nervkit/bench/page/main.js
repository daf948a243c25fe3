// Draws everything, and again when the width changes.

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

// A mean over a dataset is no curve of this clip: hidden until its legend entry is pressed.
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
