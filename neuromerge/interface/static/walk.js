/* A line of the walk rings its place in the pictures while it is pointed at or has the focus. */
import { boxOf, traces } from "./plotly.js";

const RING_PX = 22;

let rings = [];

function clear() {
  rings.forEach((ring) => ring.remove());
  rings = [];
}

/* One ring around a point or a cell of a drawn figure. */
function ring(root, { left, top, width, height }, isCell) {
  const made = document.createElement("div");
  made.className = `nm-light${isCell ? "" : " nm-round"}`;
  const [wide, high] = isCell ? [width, height] : [RING_PX, RING_PX];
  const [x, y] = [left + width / 2 - wide / 2, top + height / 2 - high / 2];
  Object.assign(made.style, { left: `${x}px`, top: `${y}px`, width: `${wide}px`, height: `${high}px` });
  root.append(made);
  rings.push(made);
}

function light(lights) {
  clear();
  for (const [id, name, places] of lights) {
    const root = document.querySelector(`#${id} .nm-view[data-state=drawn]`);
    const stage = root?.querySelector(".nm-stage");
    const curve = stage ? traces(stage).findIndex((trace) => trace.name === name) : -1;
    if (curve < 0) continue;
    const trace = traces(stage)[curve];
    if (trace.z) {
      for (let i = 0; i + 1 < places.length; i += 2) ring(root, boxOf(stage, curve, places[i], places[i + 1]), true);
    } else {
      places.filter((place) => place < trace.x.length).forEach((place) => ring(root, boxOf(stage, curve, 0, place), false));
    }
  }
}

const lineOf = (event) => event.target.closest?.("[data-lights]");

for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const line = lineOf(event);
    if (line) light(JSON.parse(line.dataset.lights));
  });
}
for (const kind of ["pointerout", "focusout"]) {
  document.addEventListener(kind, (event) => { if (lineOf(event)) clear(); });
}
