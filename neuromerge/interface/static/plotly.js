/* The only file that knows Plotly. What it does not document (names that begin with an underscore, and the methods of
 * an axis) is asked here and nowhere else; requirements.txt pins the version whose insides these are. */
import { PLOTLY_URL } from "./design.js";

const PATIENCE_MS = 20000;
const CONFIG = { displayModeBar: false, displaylogo: false, doubleClick: "reset" };

// ---------------------------------------------------------------- the library, once for all views
let library = null;

/* Running the library takes most of a second: what the page already holds is painted first. */
const painted = () => new Promise((resolve) => {
  setTimeout(resolve, 3000);  // frames stop coming while the page is in the background
  requestAnimationFrame(() => setTimeout(resolve, 0));
});

const fetched = () => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  const timer = setTimeout(() => reject(new Error("timeout")), PATIENCE_MS);
  script.src = new URL(PLOTLY_URL, import.meta.url).href;
  script.onload = () => { clearTimeout(timer); resolve(); };
  script.onerror = () => { clearTimeout(timer); script.remove(); reject(new Error("network")); };
  document.head.append(script);
});

export const isLoaded = () => Boolean(window.Plotly);

/* Fetch and run the library; a failure may be tried again. */
export function load() {
  library ??= painted().then(fetched).catch((error) => { library = null; throw error; });
  return library;
}

// ---------------------------------------------------------------- drawing
const AXIS = /^[xy]axis\d*$/;

/* The ranges that each figure set: Plotly writes a zoom over them, and forgets them when it draws anew. */
const ranges = new WeakMap();

export function draw(stage, data, layout) {
  const own = Object.entries(layout).filter(([name, axis]) => AXIS.test(name) && axis.range);
  ranges.set(stage, Object.fromEntries(own.map(([name, { range }]) => [name, [...range]])));
  frames.set(stage, frameOf(data, layout));
  outlines.set(stage, JSON.stringify(layout.shapes ?? []));
  return window.Plotly.react(stage, data, layout, CONFIG);
}

/* What each figure is drawn with beside the numbers, words and outlines that `renumber` can change; and its outlines. */
const frames = new WeakMap(), outlines = new WeakMap();
const isMap = (trace) => trace.type === "heatmap";

function frameOf(data, layout) {
  const traces = data.map((trace) => {
    if (!isMap(trace)) return trace;
    const { z, text, hovertext, meta, ...rest } = trace;
    return [rest, z.length, z[0]?.length];
  });
  const notes = (layout.annotations ?? []).map(({ text, ...rest }) => (isPlain(text) ? rest : [text, rest]));
  return JSON.stringify([traces, { ...layout, annotations: notes, shapes: null }]);
}

const isPlain = (text) => !/[<&]/.test(text ?? "<");

/* Other numbers in the heatmaps of a drawing, and other outlines, in a tenth of the time of drawing it: axes, margins,
 * colour bars and the places of words stay. False where more than that differs, and then nothing was done. The library
 * draws the cells and the outlines. */
export async function renumber(stage, data, layout) {
  if (!stage._fullData || frames.get(stage) !== frameOf(data, layout)) return false;
  const plots = new Set();
  data.forEach((trace, curve) => {
    if (!isMap(trace)) return;
    const [before, full] = [stage.data[curve], stage._fullData[curve]];
    const same = ["z", "text"].every((key) => JSON.stringify(before[key]) === JSON.stringify(trace[key]));
    stage.data[curve] = full._input = trace;
    full.meta = trace.meta;
    full.hovertext = trace.hovertext;
    if (same) return;
    full.z = trace.z;
    full.text = trace.text;
    const cells = full._module.calc(stage, full);
    Object.assign(cells[0], { trace: full, t: {} });
    stage.calcdata[curve] = cells;
    plots.add(full.xaxis + full.yaxis);
  });
  for (const name of plots) {
    const plot = stage._fullLayout._plots[name];
    const maps = stage.calcdata.filter(([{ trace }]) => isMap(trace) && trace.visible && trace.xaxis + trace.yaxis === name);
    maps[0][0].trace._module.plot(stage, plot, maps, plot.plot.select(".heatmaplayer"));
  }
  (layout.annotations ?? []).forEach(({ text }, place) => {
    if (!isPlain(text)) return;
    stage.layout.annotations[place].text = stage._fullLayout.annotations[place].text = text;
    const shown = stage.querySelector(`.annotation[data-index="${place}"] .annotation-text`);
    if (shown && shown.textContent !== text) shown.textContent = text;
  });
  const shapes = JSON.stringify(layout.shapes ?? []);
  if (shapes !== outlines.get(stage)) {
    outlines.set(stage, shapes);
    await window.Plotly.relayout(stage, { shapes: layout.shapes ?? [] });
  }
  return true;
}

export const release = (stage) => window.Plotly.purge(stage);

/* The traces as they were drawn. */
export const traces = (stage) => stage.data ?? [];

/* Tell `picked` which point was clicked, and by which event, `looked` which is pointed at (null: none), `hovered` where in the stage a single
 * point lies that is pointed at, `left` that none is any more, and `zoomed` whether the axes are no longer as the figure
 * set them. */
export function listen(stage, { picked, looked, zoomed, hovered, left }) {
  stage.on("plotly_hover", ({ points: [{ data, pointIndex, pointNumber, curveNumber }] }) => {
    looked(data, pointIndex ?? pointNumber);
    if (data.z || pointNumber === undefined) return;
    const box = boxOf(stage, curveNumber, 0, pointNumber);
    hovered(data, pointNumber, box.left + box.width / 2, box.top + box.height / 2);
  });
  stage.on("plotly_unhover", () => { looked(null); left(); });
  stage.on("plotly_click", ({ event, points: [{ data, pointIndex, pointNumber }] }) => picked(data, pointIndex ?? pointNumber, event));
  stage.on("plotly_relayout", (change) => {
    const keys = Object.keys(change);
    if (keys.some((key) => key.endsWith("autorange"))) zoomed(false);
    else if (keys.some((key) => key.includes("axis") && key.includes("range["))) zoomed(true);
  });
}

/* Give every axis the range that the figure set. */
export function showAll(stage) {
  const changes = {};
  for (const name of Object.keys(stage._fullLayout).filter((key) => AXIS.test(key))) {
    const range = ranges.get(stage)?.[name];
    if (range) changes[`${name}.range`] = [...range];
    else changes[`${name}.autorange`] = true;
  }
  return window.Plotly.relayout(stage, changes);
}

/* The drawing as a data URL, on a ground of its own. */
export function picture(stage, format, ground) {
  const { width, height } = stage._fullLayout;
  const drawing = { data: stage.data, layout: { ...stage.layout, paper_bgcolor: ground } };
  return window.Plotly.toImage(drawing, { format, width, height, scale: format === "png" ? 2 : 1 });
}

// ---------------------------------------------------------------- places
const POINT_PX = 18;
const NAMES_BESIDE_PX = 60, NAMES_ABOVE_PX = 26;

/* The row or column whose name lies at a place on the screen, where a heatmap says that its names can be chosen. */
export function labelAt(stage, clientX, clientY) {
  const box = stage.getBoundingClientRect();
  const [x, y] = [clientX - box.left, clientY - box.top];
  for (const [curve, trace] of traces(stage).entries()) {
    if (!trace.meta?.labels) continue;
    const [down, across] = trace.meta.labels;
    const first = boxOf(stage, curve, 0, 0);
    const named = stage._fullLayout[trace.yaxis.replace("y", "yaxis")].showticklabels;
    if (named && x < first.left && x > first.left - NAMES_BESIDE_PX) {
      const row = Math.floor((y - first.top) / first.height);
      if (row >= 0 && row < trace.z.length) return { source: down, index: row };
    }
    if (y < first.top && y > first.top - NAMES_ABOVE_PX) {
      const column = Math.floor((x - first.left) / first.width);
      if (column >= 0 && column < trace.z[0].length) {
        return { source: across, index: trace.meta.places?.[column] ?? column };
      }
    }
  }
  return null;
}

/* Where the name of a row (of the column -1) or of a column (of the row -1) lies in the stage. */
export function labelBox(stage, curve, row, column) {
  const { left, top, width, height } = boxOf(stage, curve, Math.max(0, row), Math.max(0, column));
  if (column < 0) return { left: Math.max(0, left - NAMES_BESIDE_PX), top, width: Math.min(left, NAMES_BESIDE_PX), height };
  return { left, top: top - NAMES_ABOVE_PX, width, height: NAMES_ABOVE_PX };
}

/* The cell of a heatmap at a place on the screen; of the trace at `curve` the nearest one, wherever the place is. */
export function cellAt(stage, clientX, clientY, curve = null) {
  const box = stage.getBoundingClientRect();
  const near = (value, count) => Math.max(0, Math.min(count - 1, value));
  for (const [place, trace] of traces(stage).entries()) {
    if (!trace.z || (curve === null ? trace.hoverinfo === "skip" : place !== curve)) continue;
    const first = boxOf(stage, place, 0, 0);
    const row = Math.floor((clientY - box.top - first.top) / first.height);
    const column = Math.floor((clientX - box.left - first.left) / first.width);
    const [rows, columns] = [trace.z.length, trace.z[0].length];
    if (curve !== null) return { curve, row: near(row, rows), column: near(column, columns) };
    if (row >= 0 && row < rows && column >= 0 && column < columns) return { curve: place, row, column };
  }
  return null;
}

/* Where a cell or a point of the trace at `curve` lies in the stage, in pixels. */
export function boxOf(stage, curve, row, column) {
  const trace = stage.data[curve];
  const full = stage._fullData[curve];
  const axis = (letter) => stage._fullLayout[(full[`${letter}axis`] ?? letter).replace(letter, `${letter}axis`)];
  const pixel = (along, value, shift = 0) => along._offset + along.c2p(along.d2c(value) + shift);
  const cell = (along, values, i) => {
    const middle = (k) => pixel(along, values ? values[k] : k);
    const next = i + 1 < (values?.length ?? i + 2) ? i + 1 : i - 1;
    const half = next < 0 ? POINT_PX / 2 : Math.abs(middle(next) - middle(i)) / 2;
    return [middle(i) - half, 2 * half];
  };
  // Grouped bars stand beside the place they belong to.
  const beside = (lying) => (trace.type === "bar" && trace.offset !== undefined && lying === (trace.orientation === "h") ? trace.offset + trace.width / 2 : 0);
  const dot = (along, value, shift) => [pixel(along, value, shift) - POINT_PX / 2, POINT_PX];
  const [left, width] = trace.z ? cell(axis("x"), trace.x, column) : dot(axis("x"), trace.x[column], beside(false));
  const [top, height] = trace.z ? cell(axis("y"), trace.y, row) : dot(axis("y"), trace.y[column], beside(true));
  return { left, top, width, height };
}
