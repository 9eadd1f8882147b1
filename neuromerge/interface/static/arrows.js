/* Two arrows beside the menu of measures: they turn to the cell under the pointer, or under the keyboard's cursor, and
 * back to the median of the map; as figures/interference/arrows.py draws them. */
import { phrase, read } from "./hover.js";

const TURNS = {
  conflict: (value) => Math.acos(-value),
  cosine: (value) => Math.acos(value),
  cancellation: (value) => 2 * Math.acos(1 - value),
  sign_conflict: (value) => Math.PI * value,
  election_margin: (value) => Math.PI * (1 - value),
};
const SHARES = ["cancellation", "sign_conflict", "election_margin"];
const MEDIAN = "Median of the map";

/* Angle in degrees and length of the second arrow. */
export function pose(key, value) {
  const turn = TURNS[key];
  if (!turn) return [value < 0 ? 180 : 0, Math.min(Math.abs(value), 1.1)];
  const low = SHARES.includes(key) ? 0 : -1;
  return [(turn(Math.min(1, Math.max(low, value))) * 180) / Math.PI, 1];
}

/* The value in words, with the angle where the arrows have turned to it. */
export function said(key, title, value, phrases) {
  const degrees = TURNS[key] ? ` (${pose(key, value)[0].toFixed(0)}°)` : "";
  const words = phrase(value, phrases);
  return `${title} ${read(value)}${degrees}${words ? `: ${words}` : ""}`;
}

/* Turn the arrows of the drawing that belongs to a figure. */
function turn(figure, value, where) {
  const { measure, title, phrases } = figure.dataset;
  const [angle, length] = pose(measure, value);
  const says = said(measure, title, value, JSON.parse(phrases));
  figure.querySelector("g.nm-arrow-two").setAttribute(
    "transform", `rotate(${(-angle).toFixed(1)}) scale(${Math.max(length, 0.02).toFixed(2)} 1)`,
  );
  figure.querySelector("b").textContent = where;
  figure.querySelector("figcaption span").textContent = says;
  figure.querySelector("svg").setAttribute("aria-label", `${where}. ${says}`);
}

const drawingOf = (event) => [...document.querySelectorAll(".nm-arrows")].find(({ dataset }) => event.target.closest(`#${dataset.of}`));

document.addEventListener("nm-look", (event) => {
  const figure = drawingOf(event);
  const { trace, place } = event.detail;
  if (!figure || !trace.z || !Array.isArray(place)) return;
  const [row, column] = place;
  const value = trace.z[row][column];
  if (value === null || value === undefined) return;
  turn(figure, value, `${trace.meta.rows[row]} · ${trace.meta.columns[column]}, ${trace.name}`);
});

document.addEventListener("nm-leave", (event) => {
  const figure = drawingOf(event);
  if (figure) turn(figure, Number(figure.dataset.median), MEDIAN);
});
