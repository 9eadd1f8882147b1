/* A figure by keyboard and screen reader: arrows walk cells and points, and the names beside a map; Enter chooses, Shift
 * with arrows selects several cells, Escape leaves. */
import { spoken } from "./hover.js";
import { boxOf, labelBox, traces } from "./plotly.js";
import { hideSample, sampleOf, showSample } from "./samples.js";

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const BUBBLE_PX = 260;

/* Rows and columns of a trace; points are one row. */
const sizeOf = ({ trace }) => (trace.z ? [trace.z.length, trace.z[0].length] : [1, trace.x.length]);

const clamp = (value, count, low = 0) => Math.max(low, Math.min(count - 1, value));

/* Names of rows and columns that can be chosen stand before the first column and row; rows are named beside the first. */
const isName = ({ row, column }) => row < 0 || column < 0;

/* What can be walked: traces that answer the pointer and hold something. `curve` is the trace's place in the figure. */
export const lanesOf = (drawn) => drawn
  .map((trace, curve) => ({ trace, curve }))
  .filter(({ trace }) => trace.hoverinfo !== "skip" && trace.visible !== false && (trace.z || trace.x?.length));

/* Where one step from `at` leads; past the edge it goes on to the neighbouring panel or series. */
export function stepped(lanes, at, [down, across]) {
  let { lane, row, column } = at ?? { lane: 0, row: down < 0 ? 1 : down ? -1 : 0, column: across > 0 ? -1 : across ? 1 : 0 };
  lane = clamp(lane, lanes.length);
  row += down;
  column += across;
  const [, columns] = sizeOf(lanes[lane]);
  if (lanes[lane].trace.z) {
    if (column >= columns && lane + 1 < lanes.length) { lane += 1; column = 0; }
    else if (column < 0 && lane > 0) { lane -= 1; column = sizeOf(lanes[lane])[1] - 1; }
  } else if (down) {
    lane = clamp(lane + down, lanes.length);
    row = 0;
  }
  const [height, width] = sizeOf(lanes[lane]);
  const named = lanes[lane].trace.meta?.labels ? -1 : 0;
  const to = { lane, row: clamp(row, height, named), column: clamp(column, width, lane === 0 ? named : 0) };
  return to.row < 0 && to.column < 0 ? at : to;  // nothing is named in the corner
}

export class Cursor {
  /* `columns()` names the values of the figure on screen; `choose(trace, place)` and `head(label)` tell Python, `look` the
   * page. `walked(place, extends)` hears of each step to a cell, and whether Shift was held, `escaped` of Escape. */
  constructor(root, { columns, choose, head, look, walked, escaped }) {
    this.root = root;
    this.stage = root.querySelector(".nm-stage");
    this.live = root.querySelector(".nm-live");
    this.marker = root.querySelector(".nm-cursor");
    this.bubble = root.querySelector(".nm-bubble");
    this.columns = columns;
    this.choose = choose;
    this.head = head;
    this.look = look;
    this.walked = walked;
    this.escaped = escaped;
    this.at = null;
    this.stage.addEventListener("keydown", (event) => this.key(event));
    this.stage.addEventListener("blur", () => this.hide());
  }

  key(event) {
    if (event.target !== this.stage) return;
    const lanes = lanesOf(traces(this.stage));
    if (event.key === "Escape") {
      this.hide();
      this.escaped();
    } else if (event.key === "Enter" || event.key === " ") {
      if (!this.at) return;
      event.preventDefault();
      const { trace } = lanes[this.at.lane];
      if (isName(this.at)) this.head(this.label(trace));
      else this.choose(trace, trace.z ? [this.at.row, this.at.column] : this.at.column);
    } else if (STEPS[event.key] && lanes.length) {
      event.preventDefault();
      const to = stepped(lanes, this.at, STEPS[event.key]);
      const extending = event.shiftKey && this.at && lanes[to.lane].trace.meta?.selects;
      if (extending && (isName(to) || isName(this.at) || to.lane !== this.at.lane)) return;
      this.at = to;
      this.show(lanes[to.lane]);
      if (lanes[to.lane].trace.z) this.walked({ curve: lanes[to.lane].curve, row: to.row, column: to.column }, extending);
    }
  }

  /* The name that the cursor is on, as Python takes it. */
  label({ meta }) {
    const { row, column } = this.at;
    return column < 0 ? { source: meta.labels[0], index: row } : { source: meta.labels[1], index: meta.places?.[column] ?? column };
  }

  /* Frame what the cursor is on, and say it: on the picture and to screen readers. */
  show({ trace, curve }) {
    const { row, column } = this.at, named = isName(this.at);
    const { left, top, width, height } = (named ? labelBox : boxOf)(this.stage, curve, row, column);
    const lines = named
      ? [column < 0 ? `all of ${trace.meta.rows[row]}` : `${trace.meta.columns[column]} in every layer`, "Enter acts on it"]
      : spoken(trace, row, column, this.columns());
    this.live.textContent = lines.join(". ");
    if (named) this.look(null);
    else this.look(trace, trace.z ? [row, column] : column);
    this.bubble.textContent = lines.join("\n");
    Object.assign(this.marker.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    this.marker.classList.toggle("nm-round", !trace.z);
    this.bubble.style.top = `${top + height + 6}px`;
    this.bubble.style.left = `${Math.max(0, Math.min(left, this.stage.clientWidth - BUBBLE_PX))}px`;
    this.marker.hidden = this.bubble.hidden = false;
    if (!trace.z) showSample(this.root, sampleOf(trace, column), left + width / 2, top);
  }

  /* After a redraw the cursor stays where it was, over the new numbers. */
  follow() {
    if (!this.at) return;
    const lane = lanesOf(traces(this.stage))[this.at.lane];
    const [rows, columns] = lane ? sizeOf(lane) : [0, 0];
    if (this.at.row < rows && this.at.column < columns) this.show(lane);
    else this.hide();
  }

  hide() {
    if (this.at) this.look(null);
    this.at = null;
    this.marker.hidden = this.bubble.hidden = true;
    hideSample(this.root);
  }
}
