/* Bars as a plain drawing of the same numbers in the same place, for as long as the library loads. */
const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

const baseline = (y, size, lines, from) => ({
  top: y + size,
  bottom: y - 1.3 * size * lines - 0.25 * size,
  middle: y - 0.65 * size * lines + 0.35 * size,
})[from];

/* Plotly's markup (b, br, spans with colour and size) as text of a drawing; `anchor` is start, middle or end. */
function write(svg, html, x, y, { anchor = "start", size, color, from = "top" }) {
  const markup = document.createElement("template");
  markup.innerHTML = html;  // inert: only its texts and three of its styles are read
  const lines = markup.content.querySelectorAll("br").length;
  const place = { x, y: baseline(y, size, lines, from), "text-anchor": anchor, "font-size": size, fill: color };
  const text = shape("text", { ...place, style: "white-space: pre" }, svg);
  let turn = false;
  const styled = ({ tagName, style }) => ({
    ...(tagName === "B" ? { "font-weight": 600 } : {}),
    ...(style?.color ? { fill: style.color } : {}),
    ...(style?.fontSize ? { "font-size": parseFloat(style.fontSize) } : {}),
  });
  const walk = (part, look) => part.childNodes.forEach((child) => {
    if (child.nodeType === Node.TEXT_NODE) {
      shape("tspan", { ...look, ...(turn ? { x, dy: 1.3 * size } : {}) }, text).textContent = child.data;
      turn = false;
    } else if (child.tagName === "BR") {
      turn = true;
    } else {
      walk(child, { ...look, ...styled(child) });
    }
  });
  walk(markup.content, {});
}

/* From the numbers of a layout's axes to pixels, and the drawing they are put on. */
class Paper {
  constructor({ layout }, font) {
    const { l, r, t, b } = layout.margin;
    const [left, right] = layout.xaxis.range;
    const [bottom, top] = layout.yaxis.range;
    this.usual = layout.template.layout;
    this.left = l;
    this.top = t;
    this.width = layout.width - l - r;
    this.height = layout.height - t - b;
    this.across = (value) => l + (this.width * (value - left)) / (right - left);
    this.up = (value) => t + (this.height * (top - value)) / (top - bottom);
    this.svg = shape("svg", { width: layout.width, height: layout.height, "aria-hidden": true, "font-family": font });
  }

  line(x1, y1, x2, y2, stroke) { shape("line", { x1, y1, x2, y2, stroke }, this.svg); }

  axis(letter, axis) {
    const usual = this.usual[`${letter}axis`];
    const look = { ...this.usual.font, ...usual.tickfont, ...axis.tickfont };
    const [right, bottom] = [this.left + this.width, this.top + this.height];
    (axis.tickvals ?? []).forEach((value, i) => {
      const label = axis.ticktext?.[i] ?? String(value);
      const [x, y] = [this.across(value), this.up(value)];
      if (letter === "x") {
        if (axis.showgrid !== false) this.line(x, this.top, x, bottom, usual.gridcolor);
        write(this.svg, label, x, bottom + 3, { ...look, anchor: "middle" });
      } else {
        if (axis.showgrid !== false) this.line(this.left, y, right, y, usual.gridcolor);
        write(this.svg, label, this.left - 5, y, { ...look, anchor: "end", from: "middle" });
      }
    });
  }

  bars(trace) {
    const lying = trace.orientation === "h";
    const [along, length] = lying ? [this.up, this.across] : [this.across, this.up];
    const [places, values] = lying ? [trace.y, trace.x] : [trace.x, trace.y];
    const spread = trace.error_y ?? trace.error_x;
    const edge = trace.marker.line ?? {};
    const look = { rx: 2, fill: trace.marker.color, stroke: edge.color ?? "none", "stroke-width": edge.width ?? 0 };
    places.forEach((place, i) => {
      const value = values[i];
      if (value === null || value === undefined) return;
      const start = place + (trace.offset ?? -trace.width / 2);
      const [near, far] = [along(start), along(start + trace.width)];
      const [zero, end] = [length(0), length(value)];
      const [breadth, extent] = [Math.abs(far - near), Math.abs(end - zero)];
      const [side, foot] = [Math.min(near, far), Math.min(zero, end)];
      const box = lying
        ? { x: foot, y: side, width: extent, height: breadth }
        : { x: side, y: foot, width: breadth, height: extent };
      shape("rect", { ...box, ...look }, this.svg);
      if (!spread?.array) return;
      const middle = (near + far) / 2;
      const low = length(value - (spread.arrayminus ?? spread.array)[i]);
      const high = length(value + spread.array[i]);
      this.line(...(lying ? [low, middle, high, middle] : [middle, low, middle, high]), spread.color);
    });
  }

  note(note) {
    const x = (note.xref === "paper" ? this.left + this.width * note.x : this.across(note.x)) + (note.xshift ?? 0);
    const y = (note.yref === "paper" ? this.top + this.height * (1 - note.y) : this.up(note.y)) - (note.yshift ?? 0);
    const anchor = { left: "start", right: "end" }[note.xanchor] ?? "middle";
    const look = { ...this.usual.font, ...this.usual.annotationdefaults.font, ...note.font };
    write(this.svg, note.text, x, y, { ...look, anchor, from: note.yanchor ?? "middle" });
  }
}

/* Draw a prepared figure of bars into `stage`; false where it has none, or axes that only the library can place. */
export function sketch(stage, drawing, font) {
  const bars = drawing.data.filter((trace) => trace.type === "bar");
  const { xaxis, yaxis, annotations } = drawing.layout;
  if (!bars.length || !xaxis?.range || !yaxis?.range) return false;
  const paper = new Paper(drawing, font);
  paper.axis("x", xaxis);
  paper.axis("y", yaxis);
  bars.forEach((trace) => paper.bars(trace));
  (annotations ?? []).forEach((note) => paper.note(note));
  stage.replaceChildren(paper.svg);
  return true;
}
