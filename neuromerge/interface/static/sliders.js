/* Rows of sliders as one component: its value is a list of rows {title, value, ...}, and a row that a person moved
 * says so (moved: true). A row may stand for several factors that differ: it stands at their mean until it is moved. What else a row holds is Python's and comes back unchanged. */
import { Curve } from "./curve.js";

const LOWEST = 0, HIGHEST = 2, STEP = 0.05;

const number = (value) => String(Number(Number(value).toFixed(4)));

/* What a factor does, in two words beside it. */
const meaning = (value) => (value === 0 ? "off" : value === 1 ? "as is" : `×${number(value)}`);

function make(row, place, changed) {
  const line = document.createElement("div");
  line.className = "nm-slider";
  const name = document.createElement("span");
  const range = document.createElement("input");
  Object.assign(range, { type: "range", step: STEP });
  const typed = document.createElement("input");
  Object.assign(typed, { type: "number", step: STEP });
  const means = document.createElement("small");
  line.append(name, range, typed, means);
  range.addEventListener("input", () => changed(place, range.value));
  typed.addEventListener("change", () => changed(place, typed.value));
  return line;
}

function show(line, row) {
  const [name, range, typed, means] = line.children;
  name.textContent = row.title;
  range.setAttribute("aria-label", row.title);
  typed.setAttribute("aria-label", `${row.title}, as a number`);
  range.min = Math.min(LOWEST, row.value);
  range.max = Math.max(HIGHEST, row.value);
  const text = number(row.value);
  if (Number(range.value) !== row.value) range.value = row.value;
  if (typed.value !== text) typed.value = text;
  const differ = row.differ && !row.moved;
  means.textContent = differ ? "differ" : meaning(row.value);
  line.classList.toggle("nm-changed", differ || row.value !== 1);
}

/* Show the rows of `props.value` in `element`, and tell `moved` when a person moves one. */
function mount(element, props, moved, watch) {
  const list = element.querySelector(".nm-sliders");
  let rows = [];
  let curve = null;  // above the sliders, where every row is a point of one
  const drawCurve = () => {
    const points = rows.length > 1 && rows.every((row) => row.point);
    if (points && !curve) list.before((curve = new Curve((place, value) => changed(place, String(value)))).root);
    curve?.root.classList.toggle("nm-gone", !points);
    if (points) curve.show(rows);
  };
  const changed = (place, text) => {
    const value = Number(text);
    if (text === "" || !Number.isFinite(value)) { show(list.children[place], rows[place]); return; }
    rows = rows.map((row, i) => (i === place ? { ...row, value, moved: true } : row));
    show(list.children[place], rows[place]);
    drawCurve();
    props.value = rows;
    moved();
  };
  const render = () => {
    rows = Array.isArray(props.value) ? props.value : [];
    if (list.children.length !== rows.length) {
      list.replaceChildren(...rows.map((row, place) => make(row, place, changed)));
    }
    rows.forEach((row, place) => show(list.children[place], row));
    drawCurve();
  };
  watch("value", render);
  render();
}

window.NeuroMergeSliders = { mount };
