/* A figure as it arrived, made ready to draw: as Figure.to_dict in Python. */
import { withHover } from "./hover.js";
import { mergePatch } from "./patch.js";
import { mode, resolve, template } from "./theme.js";

export function prepared(figure, { narrow = false, font = "inherit", name = mode() } = {}) {
  let { data, layout } = figure;
  if (narrow) {
    data = data.map((trace, i) => mergePatch(trace, figure.narrow.data[i] ?? {}));
    layout = mergePatch(layout, figure.narrow.layout);
  }
  return {
    data: resolve(data.map(withHover), name),
    layout: { ...resolve(layout, name), template: template(font, name) },
  };
}
