/* Colours: figures name tokens, and what a token is depends on the page's mode. */
import { TEMPLATE, TOKENS } from "./design.js";

const IN_TEXT = /color:token:([a-z0-9-]+)/g;

const isDark = () => [document.body, document.documentElement].some((node) => node.classList.contains("dark"));

export const mode = () => (isDark() ? "dark" : "light");

/* A copy of nested lists and objects with the tokens of `name` ("light" or "dark") in place; as theme.resolve in Python. */
export function resolve(value, name = mode()) {
  const known = TOKENS[name];
  const walk = (item) => {
    if (typeof item === "string") {
      if (item.startsWith("token:")) return known[item.slice(6)] ?? item;
      return item.includes("color:token:") ? item.replace(IN_TEXT, (_, token) => `color:${known[token] ?? "inherit"}`) : item;
    }
    if (Array.isArray(item)) {
      const numeric = typeof item[0] === "number" && typeof item[item.length - 1] === "number";
      return numeric ? item : item.map(walk);
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
