/* Rows of sliders drawn as one curve: a point for each, moved up and down by mouse, finger or arrow keys. It shows and
 * changes the same rows as the sliders under it. */
const SVG = "http://www.w3.org/2000/svg";
const STEP = 0.05, LEAP = 0.25;
const KEYS = { ArrowUp: STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowLeft: -STEP, PageUp: LEAP, PageDown: -LEAP };
const GRID = [[0, "0: base"], [1, "1: as is"], [2, "2: twice"]];
/* Shares of the drawing, in percent: where the curve lies in it. */
const LEFT = 17, RIGHT = 97, TOP = 8, BOTTOM = 84;

function svg(name, attributes, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

const snapped = (value) => Math.round(value / STEP) * STEP;

export class Curve {
  /* `changed(place, value)` hears of a point that was moved. */
  constructor(changed) {
    this.changed = changed;
    this.rows = [];
    this.root = svg("svg", { class: "nm-curve", role: "group", "aria-label": "Depth curve: one point for each block" });
    this.root.addEventListener("pointerdown", (event) => this.down(event));
    // The page must not scroll under a finger that drags a point.
    this.root.addEventListener("touchmove", (event) => { if (this.dragging) event.preventDefault(); }, { passive: false });
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  get low() { return Math.min(0, ...this.rows.map(({ value }) => value)); }
  get high() { return Math.max(2, ...this.rows.map(({ value }) => value)); }

  x(place) { return LEFT + ((RIGHT - LEFT) * place) / Math.max(1, this.rows.length - 1); }
  y(value) { return BOTTOM - ((BOTTOM - TOP) * (value - this.low)) / (this.high - this.low); }

  /* Show rows; nodes stay while their number does, so that the point under a finger or with the focus is not lost. */
  show(rows) {
    this.rows = rows;
    if (this.points?.length !== rows.length) this.build();
    this.grid.forEach((node, i) => {
      const y = `${this.y(GRID[i >> 1][0])}%`;
      for (const key of i % 2 ? ["y"] : ["y1", "y2"]) node.setAttribute(key, y);
    });
    this.lines.forEach((line, i) => {
      line.setAttribute("y1", `${this.y(rows[i].value)}%`);
      line.setAttribute("y2", `${this.y(rows[i + 1].value)}%`);
    });
    this.points.forEach((point, i) => {
      const { title, value } = rows[i];
      for (const circle of point.children) circle.setAttribute("cy", `${this.y(value)}%`);
      point.setAttribute("aria-label", title);
      point.setAttribute("aria-valuenow", value);
      point.setAttribute("aria-valuemin", this.low);
      point.setAttribute("aria-valuemax", this.high);
      this.names[i].textContent = this.nameOf(i);
    });
  }

  /* What fits under a point: the number of its block, the first and the last one whole. */
  nameOf(place) {
    const { title } = this.rows[place], { length } = this.rows;
    if (length <= 6) return title;
    return place === 0 || place === length - 1 || length <= 14 ? title.replace(/^.*block /, "") : "";
  }

  build() {
    const places = this.rows.map((_, place) => place);
    this.grid = GRID.flatMap(([, words]) => [
      svg("line", { class: "nm-curve-grid", x1: `${LEFT}%`, x2: `${RIGHT}%` }),
      svg("text", { x: 0, dy: "0.35em" }, words),
    ]);
    this.lines = places.slice(1).map((place) => (
      svg("line", { class: "nm-curve-line", x1: `${this.x(place - 1)}%`, x2: `${this.x(place)}%` })
    ));
    this.names = places.map((place) => svg("text", { x: `${this.x(place)}%`, y: "96%", "text-anchor": "middle" }));
    this.points = places.map((place) => {
      const point = svg("g", { role: "slider", tabindex: 0, "aria-orientation": "vertical", "data-place": place });
      const cx = `${this.x(place)}%`;
      point.append(svg("circle", { class: "nm-curve-hold", cx, r: 20 }), svg("circle", { class: "nm-curve-point", cx, r: 7 }));
      return point;
    });
    this.root.replaceChildren(...this.grid, ...this.lines, ...this.names, ...this.points);
  }

  move(place, value) {
    const next = Number(Math.min(this.high, Math.max(this.low, value)).toFixed(4));
    if (next !== this.rows[place].value) this.changed(place, next);
  }

  key(event) {
    const point = event.target.closest("[data-place]");
    if (!point) return;
    const place = Number(point.dataset.place);
    const to = { Home: this.low, End: this.high }[event.key] ?? (KEYS[event.key] && this.rows[place].value + KEYS[event.key]);
    if (to === undefined) return;
    event.preventDefault();
    this.move(place, to);
  }

  /* Where points stand close, the hold of one lies over its neighbour: the nearest one is meant. */
  down(event) {
    if (event.button !== 0 || !event.target.closest("[data-place]")) return;
    event.preventDefault();
    const box = this.root.getBoundingClientRect();
    const apart = this.points.map((_, place) => Math.abs(box.left + (box.width * this.x(place)) / 100 - event.clientX));
    const place = apart.indexOf(Math.min(...apart));
    this.points[place].focus({ preventScroll: true });
    const gone = new AbortController();
    this.dragging = true;
    const [low, high] = [this.low, this.high];
    const follow = ({ clientY }) => {
      const share = (BOTTOM - (100 * (clientY - box.top)) / box.height) / (BOTTOM - TOP);
      this.move(place, snapped(low + share * (high - low)));
    };
    window.addEventListener("pointermove", follow, { signal: gone.signal });
    const over = () => { this.dragging = false; gone.abort(); };
    for (const type of ["pointerup", "pointercancel"]) window.addEventListener(type, over, { signal: gone.signal });
  }
}
