/* Colours: figures name tokens, and what a token is depends on the page's mode. */
import { BLACK_ABOVE, TEMPLATE, TOKENS } from "./design.js";

const IN_TEXT = /color:token:([a-z0-9-]+)/g;

const isDark = () => [document.body, document.documentElement].some((node) => node.classList.contains("dark"));

export const mode = () => (isDark() ? "dark" : "light");

const rgb = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

/* The colour at `share` of a scale, as Plotly interpolates. */
function colourAt(scale, share) {
  const found = scale.findIndex(([at]) => at >= share);
  const above = found < 0 ? scale.length - 1 : found;
  const [[low, start], [high, end]] = [scale[Math.max(above - 1, 0)], scale[above]];
  const part = high > low ? (share - low) / (high - low) : 0;
  return rgb(start).map((value, i) => value + (rgb(end)[i] - value) * part);
}

/* Relative luminance (WCAG 2.2). */
function luminance(colour) {
  const [red, green, blue] = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/* What a token stands for: a colour, a scale, or the text colour that can be read on a place of a scale. */
function valueOf(token, known) {
  const found = /^on-([a-z]+)-(\d+)$/.exec(token);
  if (!found || !known[found[1]]) return known[token];
  return luminance(colourAt(known[found[1]], Number(found[2]) / 1000)) > BLACK_ABOVE ? "#000000" : "#ffffff";
}

/* A copy of nested lists and objects with the tokens of `name` ("light" or "dark") in place; as theme.resolve in Python. */
export function resolve(value, name = mode()) {
  const known = TOKENS[name];
  const walk = (item) => {
    if (typeof item === "string") {
      if (item.startsWith("token:")) return valueOf(item.slice(6), known) ?? item;
      return item.includes("color:token:") ? item.replace(IN_TEXT, (_, token) => `color:${valueOf(token, known) ?? "inherit"}`) : item;
    }
    if (Array.isArray(item)) {
      const numeric = typeof item[0] === "number" && typeof item[item.length - 1] === "number";
      return numeric ? item.slice() : item.map(walk);  // a copy: Plotly writes a zoom into the ranges it is given
    }
    if (item && typeof item === "object") {
      return Object.fromEntries(Object.entries(item).map(([key, child]) => [key, walk(child)]));
    }
    return item;
  };
  return walk(value);
}

/* The Plotly template of every figure, in the page's own font. */
export function template(font, name = mode()) {
  const made = resolve(TEMPLATE, name);
  made.layout.font.family = font;
  made.layout.hoverlabel.font.family = font;
  return made;
}

/* Call `then` whenever the page changes its mode. */
export function onModeChange(then) {
  let last = mode();
  const observer = new MutationObserver(() => {
    if (mode() === last) return;
    last = mode();
    then();
  });
  for (const node of [document.body, document.documentElement]) {
    observer.observe(node, { attributes: true, attributeFilter: ["class"] });
  }
}
