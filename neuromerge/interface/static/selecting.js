/* Many cells of a map at once: a drag of the mouse, a finger held still and then moved, Shift or Ctrl with a click, Shift
 * with the arrow keys. What is being selected is framed here; what is selected the figure itself shows, once Python has
 * answered. */
import { boxOf, cellAt, traces } from "./plotly.js";

const DRAG_PX = 8, HOLD_MS = 350;
const STEP_MS = 150;  // a walk is told where it pauses
const SAME_GESTURE_MS = 500;  // the library reports a click after the finger or the key has told already

const at = ({ clientX, clientY }) => [clientX, clientY];
const between = (a, b) => [Math.min(a, b), Math.max(a, b)];

/* The cells of a trace from one corner to another, as Python counts them, without those that the layer lacks. */
export function cellsOf(trace, from, to) {
  const [top, bottom] = between(from.row, to.row);
  const [left, right] = between(from.column, to.column);
  const found = [];
  for (let row = top; row <= bottom; row += 1) {
    for (let column = left; column <= right; column += 1) found.push([row, trace.meta.places?.[column] ?? column]);
  }
  return found;
}

export class Selecting {
  /* `tell({source, cells, how})` tells Python: `how` is "replace", "add" or "toggle". */
  constructor(root, tell) {
    this.stage = root.querySelector(".nm-stage");
    this.frame = root.querySelector(".nm-picking");
    this.tell = tell;
    this.anchor = null;  // where what Shift extends begins: {curve, row, column}
    this.under = null;  // a gesture under way
    this.told = -Infinity;
    this.stage.addEventListener("pointerdown", (event) => this.down(event), true);
    // Once a held finger selects, the page must not scroll under it.
    this.stage.addEventListener("touchmove", (event) => { if (this.under?.on) event.preventDefault(); }, { passive: false });
    this.stage.addEventListener("contextmenu", (event) => { if (this.under) event.preventDefault(); });
  }

  /* Whether a click was part of a gesture that has told Python already. */
  took(event) {
    return Boolean(event?.shiftKey || event?.ctrlKey || event?.metaKey) && this.anchor !== null
      || performance.now() - this.told < SAME_GESTURE_MS;
  }

  /* The cell that a click has opened, or the cursor walked to: Shift extends from there. */
  begin(place) { this.anchor = place; }

  place(event) {
    const found = cellAt(this.stage, ...at(event));
    return found && traces(this.stage)[found.curve].meta?.selects ? found : null;
  }

  down(event) {
    const from = event.button === 0 ? this.place(event) : null;
    if (!from) return;
    const touch = event.pointerType === "touch";
    const gesture = { from, to: from, start: at(event), on: false, gone: new AbortController() };
    gesture.how = event.shiftKey ? "extend" : event.ctrlKey || event.metaKey ? "toggle" : "replace";
    this.under = gesture;
    if (touch) gesture.timer = setTimeout(() => this.start(gesture), HOLD_MS);
    const listen = (type, then) => window.addEventListener(type, then, { capture: true, signal: gesture.gone.signal });
    listen("pointermove", (move) => this.move(gesture, move, touch));
    listen("pointerup", () => this.up(gesture));
    listen("pointercancel", () => this.end(gesture));
    listen("keydown", (key) => { if (key.key === "Escape") this.end(gesture); });
  }

  start(gesture) {
    gesture.on = true;
    if (gesture.how === "extend" && this.anchor?.curve === gesture.from.curve) gesture.from = this.anchor;
    this.show(gesture.from, gesture.to);
  }

  move(gesture, event, touch) {
    const [x, y] = at(event);
    const still = Math.hypot(x - gesture.start[0], y - gesture.start[1]) < DRAG_PX;
    if (!gesture.on && !still) {
      if (touch) { this.end(gesture); return; }  // a finger that moves at once scrolls the page
      this.start(gesture);
    }
    if (!gesture.on) return;
    const to = cellAt(this.stage, x, y, gesture.from.curve);
    if (!to || (to.row === gesture.to.row && to.column === gesture.to.column)) return;
    gesture.to = to;
    this.show(gesture.from, to);
  }

  up(gesture) {
    if (!gesture.on && gesture.how !== "replace") this.start(gesture);
    const chosen = gesture.on;
    this.end(gesture, chosen);
    if (!chosen) return;
    if (gesture.how !== "extend") this.anchor = gesture.from;
    const single = gesture.from.row === gesture.to.row && gesture.from.column === gesture.to.column;
    this.choose(gesture.from, gesture.to, gesture.how === "toggle" ? (single ? "toggle" : "add") : "replace");
  }

  end(gesture, kept = false) {
    clearTimeout(gesture.timer);
    gesture.gone.abort();
    if (this.under === gesture) this.under = null;
    if (!kept) this.clear();
  }

  choose(from, to, how) {
    const trace = traces(this.stage)[from.curve];
    this.told = performance.now();
    this.tell({ source: trace.meta.source, cells: cellsOf(trace, from, to), how });
  }

  /* From where Shift began to where the keyboard's cursor is now. */
  extend(to) {
    if (this.anchor?.curve !== to.curve || this.anchor.row < 0 || this.anchor.column < 0) return;
    const from = this.anchor;
    this.show(from, to);
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.choose(from, to, "replace"), STEP_MS);
  }

  show(from, to) {
    const [a, b] = [from, to].map(({ row, column }) => boxOf(this.stage, from.curve, row, column));
    const [left, top] = [Math.min(a.left, b.left), Math.min(a.top, b.top)];
    const [right, bottom] = [Math.max(a.left + a.width, b.left + b.width), Math.max(a.top + a.height, b.top + b.height)];
    Object.assign(this.frame.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
    this.frame.hidden = false;
  }

  /* What was framed is drawn by now, or given up. */
  clear() {
    if (!this.under?.on) this.frame.hidden = true;
  }
}
