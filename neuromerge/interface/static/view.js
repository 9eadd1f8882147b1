/* A figure's life on the page: it arrives as JSON, waits until it can be seen, is drawn, and drawn again when its
 * numbers, the page's width or its mode change. Dark mode is a redraw here and never a question to the server.
 *
 * The page loads this module once; every view calls NeuroMergeView.mount. */
import "./arrows.js";
import { Cursor } from "./cursor.js";
import { isMoving, whenAtRest, withFrame, withHeld } from "./held.js";
import { bring } from "./page.js";
import * as plotly from "./plotly.js";
import "./pointing.js";
import { prepared } from "./prepared.js";
import { Selecting } from "./selecting.js";
import { hideSample, sampleOf, showSample } from "./samples.js";
import { sketch } from "./sketch.js";
import "./sliders.js";
import { onModeChange } from "./theme.js";
import { act } from "./tools.js";
import "./tour.js";
import "./walk.js";

const DAMAGED = "This figure arrived damaged. Move a control to draw it again.";
const NO_LIBRARY = "The drawing library did not load. Check the connection, then try again.";
const NOT_DRAWN = "This figure could not be drawn. Its numbers are in the table or CSV.";

const CLICK_PX = 6;

const views = new Set();

/* What the server sent: a figure, or words in place of one. */
function read(value) {
  try {
    return value ? JSON.parse(value) : { message: "", kind: "loading" };
  } catch {
    return { message: DAMAGED, kind: "error" };
  }
}

class View {
  constructor(element, props, trigger) {
    this.props = props;
    this.trigger = trigger;
    this.root = element.querySelector(".nm-view");
    this.stage = element.querySelector(".nm-stage");
    this.words = element.querySelector(".nm-message");
    this.alt = element.querySelector(".nm-alt");
    this.font = getComputedStyle(this.root).fontFamily;
    this.figure = null;
    this.visible = false;  // near enough to the screen to be drawn
    this.dirty = true;  // what is drawn is not what arrived
    this.busy = false;  // a drawing is under way
    this.ready = false;  // the library has drawn here before
    this.scales = null;  // the layout whose scales are on screen
    this.moved = false;  // a slider has moved since it was drawn at rest
    this.outgrown = null;  // the layout from before the last move, whose frame is drawn
    this.atRest = () => this.redraw();
    this.selecting = new Selecting(this.root, (chosen) => this.trigger({ selected: true, ...chosen }));
    this.cursor = new Cursor(this.root, {
      columns: () => this.figure.columns,
      choose: (trace, place) => this.pick(trace, place),
      head: (label) => this.trigger({ heading: true, ...label }),
      look: (trace, place) => this.look(trace, place),
      walked: (place, extends_) => (extends_ ? this.selecting.extend(place) : this.selecting.begin(place)),
      escaped: () => this.dropSelection(),
    });

    this.sight = new IntersectionObserver((entries) => {
      this.visible = entries[entries.length - 1].isIntersecting;
      if (this.visible && this.dirty) this.request();
    }, { rootMargin: "240px" });
    this.sight.observe(this.root);
    this.size = new ResizeObserver(() => {
      if (this.drawnWidth && Math.abs(this.width() - this.drawnWidth) > 1) this.redraw();
    });
    this.size.observe(this.root);
    element.querySelector(".nm-tools").addEventListener("click", (event) => this.tool(event));
    this.words.addEventListener("click", (event) => { if (event.target.closest("button")) this.retry(); });
    this.stage.addEventListener("pointerdown", (event) => this.press(event), true);
    this.value();
  }

  width() { return this.root.clientWidth; }

  set state(state) { this.root.dataset.state = state; }
  get state() { return this.root.dataset.state; }

  /* A new value from the server. */
  value() {
    const sent = read(this.props.value);
    this.figure = sent.data ? sent : null;
    if (!this.figure) {
      this.say(sent.message, sent.kind);
      return;
    }
    this.alt.textContent = sent.alt;
    this.stage.setAttribute("aria-label", sent.alt);
    // A box without a figure may take no room, and what takes no room never comes into sight.
    if (this.state === "absent") this.state = "loading";
    this.redraw();
  }

  // -------------------------------------------------------------- drawing
  redraw() {
    if (!this.root.isConnected) {
      this.close();
      return;
    }
    this.dirty = true;
    if (this.state === "sketched") this.sketch();
    if (this.visible) this.request();
  }

  request() {
    if (this.busy || this.frame || !this.figure) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  async draw() {
    this.busy = true;
    this.dirty = false;
    if (!plotly.isLoaded()) this.sketch();
    try {
      await plotly.load();
    } catch {
      this.busy = false;
      this.dirty = true;
      this.say(NO_LIBRARY, "error");
      return;
    }
    const drawn = await this.paint();
    this.busy = false;
    if (this.dirty && this.visible) this.request();
    else if (drawn) this.root.dataset.drawn = String(Number(this.root.dataset.drawn ?? 0) + 1);
  }

  /* Draw with the library; false where there is nothing to draw, or no room. */
  async paint() {
    const width = this.width();
    if (!this.figure || !this.root.isConnected) return false;
    if (!width) {
      this.dirty = true;
      return false;
    }
    try {
      const narrow = this.narrow(width);
      const { data, layout: arrived } = this.sized(width);
      arrived.autosize = false;
      arrived.uirevision = `${arrived.uirevision ?? this.figure.name}${narrow ? " narrow" : ""}`;
      const selects = data.some(({ meta }) => meta?.selects);
      this.stage.toggleAttribute("data-selects", selects);
      if (selects || narrow || matchMedia("(pointer: coarse)").matches) arrived.dragmode = false;
      const layout = this.held(arrived);
      if (this.state === "sketched") this.stage.replaceChildren();
      this.show("drawn", layout.height);
      if (this.ready && narrow !== this.drawnNarrow) {
        // The library leaves behind what it drew of a colour bar that lies now, or stands, and keeps its room free.
        plotly.release(this.stage);
        this.ready = false;
      }
      this.drawnNarrow = narrow;
      if (!this.ready || !(await plotly.renumber(this.stage, data, layout))) await plotly.draw(this.stage, data, layout);
      this.drawnWidth = width;
      this.cursor.follow();
      this.selecting.clear();
      if (!this.ready) this.wire();
    } catch (error) {
      console.error("A figure could not be drawn:", error);
      this.say(NOT_DRAWN, "error");
    }
    return true;
  }

  narrow(width) { return width < this.figure.narrow.below; }

  sized(width) {
    const { data, layout } = prepared(this.figure, { narrow: this.narrow(width), font: this.font });
    // A copy: the library writes what a visitor zooms to into the layout that it is given.
    return { data, layout: structuredClone({ ...layout, width }) };
  }

  /* While a slider moves, the scales are those from before it did; they follow when it rests, and the old frame of axes
   * that were held stays to be seen. */
  held(layout) {
    const before = this.scales;
    const same = before?.uirevision === layout.uirevision;
    if (!isMoving() || !same) {
      if (this.moved || !same) this.outgrown = this.moved && same && this.figure.held.includes("yaxis.range") ? before : null;
      this.moved = false;
      this.scales = structuredClone(layout);
      return this.outgrown ? withFrame(layout, this.outgrown) : layout;
    }
    this.moved = true;
    whenAtRest(this.atRest);
    return withHeld(layout, before, this.figure.held);
  }

  /* The numbers must not wait for the library. */
  sketch() {
    const width = this.width();
    if (!this.figure || !width) return;
    const drawing = this.sized(width);
    if (sketch(this.stage, drawing, this.font)) this.show("sketched", drawing.layout.height);
  }

  show(state, height) {
    this.stage.style.height = `${height}px`;
    this.state = state;
    this.words.hidden = true;
  }

  wire() {
    this.ready = true;
    plotly.listen(this.stage, {
      picked: (trace, place, event) => { if (!(trace.meta?.selects && this.selecting.took(event))) this.pick(trace, place); },
      looked: (trace, place) => this.look(trace, place),
      zoomed: (is) => this.root.toggleAttribute("data-zoomed", is),
      hovered: (trace, place, x, y) => showSample(this.root, sampleOf(trace, place), x, y),
      left: () => hideSample(this.root),
    });
  }

  /* Words in place of the figure. */
  say(text, kind) {
    this.state = text || kind === "loading" ? kind ?? "empty" : "absent";
    this.words.querySelector("span").textContent = text;
    this.words.querySelector("button").hidden = !(kind === "error" && this.figure);
    this.words.hidden = !text;
    this.words.setAttribute("role", kind === "error" ? "alert" : "status");
  }

  close() {
    this.sight.disconnect();
    this.size.disconnect();
    if (this.ready) plotly.release(this.stage);
    views.delete(this);
  }

  // -------------------------------------------------------------- what a person does
  /* Tell Python what was chosen: [row, column] of a cell or the number of a point. It checks every index again. */
  pick(trace, place) {
    const source = trace.meta?.source;
    if (!source) return;
    if (Array.isArray(place)) {
      const [row, column] = place;
      if (trace.z[row][column] === null) return;
      this.selecting.begin({ curve: plotly.traces(this.stage).indexOf(trace), row, column });
      const { x, y } = trace;
      const known = trace.meta.places?.[column] ?? column;
      this.trigger({ source, row, column: known, ...(x && y ? { x: x[column], y: y[row] } : {}) });
    } else {
      const index = trace.meta.index ? trace.meta.index[place] : place;
      if (index >= 0) this.trigger({ source, index });
    }
  }

  /* Escape: nothing is selected any more. */
  dropSelection() {
    const trace = plotly.traces(this.stage).find(({ meta }) => meta?.selects);
    if (trace?.meta.selects.length) this.trigger({ selected: true, source: trace.meta.source, cells: [], how: "replace" });
  }

  /* Tell the page what is pointed at; null: nothing any more. */
  look(trace, place) {
    const detail = { trace, place };
    this.root.dispatchEvent(new CustomEvent(trace ? "nm-look" : "nm-leave", { bubbles: true, detail }));
  }

  /* A press on the name of a row or a column. Plotly swallows the click: it takes the axis for a handle. */
  press(down) {
    const label = this.ready ? plotly.labelAt(this.stage, down.clientX, down.clientY) : null;
    if (!label) return;
    const gone = new AbortController();
    const over = ({ type, clientX, clientY }) => {
      gone.abort();
      const still = Math.hypot(clientX - down.clientX, clientY - down.clientY) < CLICK_PX;
      if (type === "pointerup" && still) this.trigger({ heading: true, ...label });
    };
    for (const type of ["pointerup", "pointercancel"]) {
      window.addEventListener(type, over, { capture: true, signal: gone.signal });
    }
  }

  async tool(event) {
    const action = event.target.closest("button")?.dataset.do;
    if (!action || !this.figure) return;
    await act(action, this);
    if (action === "reset" && this.ready) this.root.removeAttribute("data-zoomed");
  }

  retry() {
    this.words.hidden = true;
    this.state = "loading";
    this.redraw();
  }
}

/* Give the frame in `element` its figure; `watch` calls back for every new value. */
function mount(element, props, trigger, watch) {
  views.forEach((view) => { if (!view.root.isConnected) view.close(); });
  const view = new View(element, props, trigger);
  views.add(view);
  watch("value", () => view.value());
  return view;
}

/* Where a cell or point of a drawn figure lies on the screen: for what drives the page from outside. */
function placeOf(stage, source, row, column) {
  const drawn = plotly.traces(stage);
  const holds = ({ meta }) => meta?.source === source && (meta.places?.includes(column) ?? true);
  const curve = drawn.findIndex(holds);
  const shown = drawn[curve].meta.places?.indexOf(column) ?? column;
  const { left, top, width, height } = plotly.boxOf(stage, curve, row, shown);
  const box = stage.getBoundingClientRect();
  return { x: box.left + left + width / 2, y: box.top + top + height / 2, width, height };
}

onModeChange(() => views.forEach((view) => view.redraw()));
window.NeuroMergeView = { bring, mount, placeOf };
