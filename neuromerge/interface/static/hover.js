/* What a cell or a point says when it is pointed at; the texts of cells as figures/hover.py writes them. */

/* A number with three significant digits. */
export const short = (value) => String(Number(value.toPrecision(3)));

/* A number as it is read: with a true minus in place of every hyphen. */
export const read = (value) => short(value).replaceAll("-", "−");

/* The first phrase whose bound is not below the value. */
export function phrase(value, phrases) {
  for (const [bound, text] of phrases) if (bound === null || value <= bound) return text;
  return "";
}

/* The hover text of every cell of a heatmap: where it is, its value, and what that means or why there is none. */
export function cellTexts(trace) {
  const { hover, rows, columns } = trace.meta;
  const apart = new Set(hover.not_applicable.cells);
  const text = (value, i, j) => {
    const lines = [`<b>${rows[i]} · ${columns[j]}</b>`];
    if (value !== null) lines.push(`${hover.title}: ${read(value)}`, phrase(value, hover.phrases));
    else lines.push(apart.has(i * columns.length + j) ? hover.not_applicable.text : hover.blank);
    lines.push(hover.marks[i * columns.length + j]);
    return lines.filter(Boolean).join("<br>");
  };
  return trace.z.map((line, i) => line.map((value, j) => text(value, i, j)));
}

/* A trace with its hover texts, where it says how to write them. */
export const withHover = (trace) => (trace.meta?.hover ? { ...trace, hovertext: cellTexts(trace) } : trace);

/* Markup as lines of plain text. */
function bare(markup) {
  return String(markup).split("<br>").map((line) => {
    const node = document.createElement("template");
    node.innerHTML = line;  // inert: nothing in it runs or loads
    return node.content.textContent;
  });
}

/* The same for the keyboard: what stands at one place of a drawn trace, line by line. `columns` name x, y and z. */
export function spoken(trace, row, column, columns) {
  const text = trace.z ? trace.hovertext?.[row]?.[column] : null;
  if (text && trace.hovertemplate !== undefined && !trace.hovertemplate.includes("%{z")) return bare(text);
  const pairs = trace.z
    ? [["x", trace.x?.[column] ?? column], ["y", trace.y?.[row] ?? row], ["z", trace.z[row][column]]]
    : [["x", trace.x[column]], ["y", trace.y[column]]];
  const label = Array.isArray(trace.hovertext) ? trace.hovertext[column] : null;
  const head = [trace.name, label].filter(Boolean).join(": ");
  const values = pairs
    .map(([key, value]) => [columns[key] ?? key, value ?? "none"])
    .filter(([name]) => name)
    .map(([name, value]) => `${name} ${value}`);
  return bare([head, ...values].filter(Boolean).join("<br>"));
}
