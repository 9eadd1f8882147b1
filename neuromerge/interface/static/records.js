/* The numbers drawn, as records and CSV; as figures/records.py. */

/* One record per number: its series and its values, under the names in `figure.columns`. */
export function records(figure) {
  const found = [];
  const add = (series, record) => {
    const named = { series };
    for (const [key, value] of Object.entries(record)) {
      const name = figure.columns[key] ?? key;
      if (name) named[name] = value;
    }
    found.push(named);
  };
  for (const trace of figure.data) {
    const series = trace.meta?.csv ?? trace.name ?? "";
    if (series !== false) values(trace).forEach((record) => add(series, record));
  }
  return found;
}

/* The cells of a grid, or the points of a line. */
function values(trace) {
  const { meta = {}, x, y, z } = trace;
  if (z) {
    const columns = meta.columns ?? x;
    const rows = meta.rows ?? y;
    return z.flatMap((line, i) => line.map((value, j) => ({ x: columns?.[j] ?? j, y: rows?.[i] ?? i, z: value })));
  }
  if (!x || !y) return [];
  const labels = Array.isArray(trace.hovertext) ? trace.hovertext : null;
  const error = trace.error_y ?? trace.error_x ?? {};
  const spread = error.array && error.arrayminus;
  return x.map((left, i) => ({
    ...(labels ? { label: labels[i] } : {}),
    x: left,
    y: y[i],
    ...(spread ? { "error above": error.array[i], "error below": error.arrayminus[i] } : {}),
  }));
}

const field = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function toCsv(figure) {
  const rows = records(figure);
  const names = [...new Set(rows.flatMap(Object.keys))];
  const lines = [names, ...rows.map((row) => names.map((name) => row[name]))];
  return lines.map((line) => `${line.map(field).join(",")}\n`).join("");
}
