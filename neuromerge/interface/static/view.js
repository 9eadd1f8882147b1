/* Draws the package's figures with Plotly and keeps them alive: zoom, theme, width, clicks and the keyboard.
 *
 * The page loads this file once; every view calls NeuroMergeView.mount. A figure arrives as JSON whose colours
 * are token names, so dark mode is a redraw here and never a question to the server. Views that cannot be seen
 * (another tab, far down the page) draw nothing until they can. */
"use strict";

window.NeuroMergeView = (() => {
  const { tokens: TOKENS, template: TEMPLATE, narrow_below: NARROW, plotly: PLOTLY_URL } = window.NeuroMergeDesign;
  const HERE = new URL(".", document.currentScript.src);
  const PATIENCE_MS = 20000;
  const views = new Set();

  // ---------------------------------------------------------------- the library, once for all views
  let library = null;
  // Running the library takes most of a second: what the page already holds is painted first.
  const painted = () => new Promise((resolve) => {
    setTimeout(resolve, 3000);  // frames stop coming while the page is in the background
    requestAnimationFrame(() => setTimeout(resolve, 0));
  });
  function loadPlotly() {
    library ??= painted().then(() => new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const timer = setTimeout(() => reject(new Error("timeout")), PATIENCE_MS);
      script.src = new URL(PLOTLY_URL, HERE).href;
      script.onload = () => { clearTimeout(timer); resolve(window.Plotly); };
      script.onerror = () => { clearTimeout(timer); script.remove(); reject(new Error("network")); };
      document.head.appendChild(script);
    })).catch((error) => { library = null; throw error; });
    return library;
  }

  // ---------------------------------------------------------------- theme
  const isDark = () => document.body.classList.contains("dark") || document.documentElement.classList.contains("dark");

  function resolve(value, known) {
    if (typeof value === "string") {
      if (value.startsWith("token:")) return known[value.slice(6)] ?? value;
      return value.includes("color:token:") ? value.replace(/color:token:([a-z0-9-]+)/g, (whole, name) => `color:${known[name] ?? "inherit"}`) : value;
    }
    if (Array.isArray(value)) {
      const numeric = typeof value[0] === "number" && typeof value[value.length - 1] === "number";
      return numeric ? value : value.map((item) => resolve(item, known));
    }
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, known)]));
    }
    return value;
  }

  function template(font) {
    const known = TOKENS[isDark() ? "dark" : "light"];
    const result = resolve(TEMPLATE, known);
    result.layout.font.family = font;
    result.layout.hoverlabel.font.family = font;
    return result;
  }

  let wasDark = null;
  const watchTheme = new MutationObserver(() => {
    if (isDark() === wasDark) return;
    wasDark = isDark();
    views.forEach((view) => view.redraw());
  });

  // ---------------------------------------------------------------- figures as data
  function mergePatch(target, change) {
    if (!change || typeof change !== "object" || Array.isArray(change)) return change;
    const result = target && typeof target === "object" && !Array.isArray(target) ? { ...target } : {};
    for (const [key, value] of Object.entries(change)) {
      if (value === null) delete result[key];
      else result[key] = mergePatch(result[key], value);
    }
    return result;
  }

  function phrase(value, words) {
    if (value !== null && value !== undefined) {
      for (const [bound, text] of words.slice(0, -1)) if (bound === null || value <= bound) return text;
    }
    return words[words.length - 1][1];
  }

  /* The hover text of every cell: where it is, its value, and what that means or why there is none. */
  function cellTexts(trace) {
    const { words, na, rows, columns, title } = trace.meta;
    const missing = new Set(na.cells);
    return trace.z.map((line, i) => line.map((value, j) => {
      const means = missing.has(i * columns.length + j) ? na.text : phrase(value, words);
      const shown = value === null ? "" : `<br>${title}: ${Number(value.toPrecision(3))}`;
      return `<b>${rows[i]} · ${columns[j]}</b>${shown}${means ? `<br>${means}` : ""}`;
    }));
  }

  function prepared(figure, narrow, font) {
    const known = TOKENS[isDark() ? "dark" : "light"];
    let data = figure.data;
    let layout = figure.layout;
    if (narrow) {
      data = data.map((trace, i) => mergePatch(trace, figure.narrow.data[i] ?? {}));
      layout = mergePatch(layout, figure.narrow.layout);
    }
    data = data.map((trace) => (trace.meta?.words ? { ...trace, text: cellTexts(trace) } : trace));
    return { data: resolve(data, known), layout: { ...resolve(layout, known), template: template(font) } };
  }

  /* The numbers drawn, one record per value, as `Figure.rows` in Python gives them. */
  function records(figure) {
    const out = [];
    const add = (series, record) => {
      const row = { series };
      for (const [key, value] of Object.entries(record)) {
        const name = figure.columns[key] ?? key;
        if (name) row[name] = value;
      }
      out.push(row);
    };
    for (const trace of figure.data) {
      const meta = trace.meta ?? {};
      const series = meta.csv ?? trace.name ?? "";
      if (series === false) continue;
      if (trace.z) {
        const columns = meta.columns ?? trace.x;
        const rows = meta.rows ?? trace.y;
        trace.z.forEach((line, i) => line.forEach((z, j) => add(series, { x: columns?.[j] ?? j, y: rows?.[i] ?? i, z })));
      } else if (trace.x && trace.y) {
        const error = trace.error_y ?? trace.error_x;
        trace.x.forEach((x, i) => add(series, {
          ...(Array.isArray(trace.hovertext) ? { label: trace.hovertext[i] } : {}),
          x,
          y: trace.y[i],
          ...(error?.array ? { "error above": error.array[i], "error below": error.arrayminus?.[i] } : {}),
        }));
      }
    }
    return out;
  }

  function toCsv(figure) {
    const rows = records(figure);
    const names = [...new Set(rows.flatMap(Object.keys))];
    const quote = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [names, ...rows.map((row) => names.map((key) => row[key]))].map((row) => row.map(quote).join(",")).join("\n") + "\n";
  }

  function save(url, filename) {
    const link = document.createElement("a");
    link.href = url;
    link.download = filename;
    link.click();
  }

  // ---------------------------------------------------------------- bars without the library
  const SVG = "http://www.w3.org/2000/svg";
  function shape(name, attributes, parent) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent?.append(made);
    return made;
  }

  /* Plotly's markup (b, br, spans with colour and size) as text of a drawing; `anchor` is start, middle or end. */
  function write(svg, html, x, y, { anchor = "start", size, color, from = "top" }) {
    const markup = document.createElement("template");
    markup.innerHTML = html;  // inert: only its texts and three of its styles are read
    const lines = markup.content.querySelectorAll("br").length;
    const first = from === "top" ? y + size : from === "bottom" ? y - 1.3 * size * lines - 0.25 * size : y - 0.65 * size * lines + 0.35 * size;
    const text = shape("text", { x, y: first, "text-anchor": anchor, "font-size": size, fill: color, style: "white-space: pre" }, svg);
    let turn = false;
    const walk = (part, look) => part.childNodes.forEach((child) => {
      if (child.nodeType === Node.TEXT_NODE) {
        shape("tspan", { ...look, ...(turn ? { x, dy: 1.3 * size } : {}) }, text).textContent = child.data;
        turn = false;
      } else if (child.tagName === "BR") {
        turn = true;
      } else {
        walk(child, {
          ...look,
          ...(child.tagName === "B" ? { "font-weight": 600 } : {}),
          ...(child.style?.color ? { fill: child.style.color } : {}),
          ...(child.style?.fontSize ? { "font-size": parseFloat(child.style.fontSize) } : {}),
        });
      }
    });
    walk(markup.content, {});
  }

  /* A bar figure as a plain drawing of the same numbers in the same place, for as long as the library loads. */
  function sketch(stage, { data, layout }, font) {
    const bars = data.filter((trace) => trace.type === "bar");
    const ranges = [layout.xaxis?.range, layout.yaxis?.range];
    if (!bars.length || !ranges.every(Boolean)) return false;
    const { l, r, t, b } = layout.margin;
    const usual = layout.template.layout;
    const [width, height] = [layout.width - l - r, layout.height - t - b];
    const across = (value) => l + (width * (value - ranges[0][0])) / (ranges[0][1] - ranges[0][0]);
    const up = (value) => t + (height * (ranges[1][1] - value)) / (ranges[1][1] - ranges[1][0]);
    const svg = shape("svg", { width: layout.width, height: layout.height, "aria-hidden": true, "font-family": font });
    const line = (x1, y1, x2, y2, stroke) => shape("line", { x1, y1, x2, y2, stroke }, svg);
    for (const [name, axis] of [["x", layout.xaxis], ["y", layout.yaxis]]) {
      const look = { ...usual.font, ...usual[`${name}axis`].tickfont, ...axis.tickfont };
      const grid = usual[`${name}axis`].gridcolor;
      (axis.tickvals ?? []).forEach((value, i) => {
        const label = axis.ticktext?.[i] ?? String(value);
        const [x, y] = [across(value), up(value)];
        if (name === "x") {
          if (axis.showgrid !== false) line(x, t, x, t + height, grid);
          write(svg, label, x, t + height + 3, { ...look, anchor: "middle" });
        } else {
          if (axis.showgrid !== false) line(l, y, l + width, y, grid);
          write(svg, label, l - 5, y, { ...look, anchor: "end", from: "middle" });
        }
      });
    }
    for (const trace of bars) {
      const lying = trace.orientation === "h";
      const [places, values] = lying ? [trace.y, trace.x] : [trace.x, trace.y];
      const spread = trace.error_y ?? trace.error_x;
      places.forEach((place, i) => {
        if (values[i] === null || values[i] === undefined) return;
        const start = place + (trace.offset ?? -trace.width / 2);
        const [near, far] = [start, start + trace.width].map(lying ? up : across);
        const [zero, end] = [0, values[i]].map(lying ? across : up);
        const box = [Math.min(near, far), Math.min(zero, end), Math.abs(far - near), Math.abs(end - zero)];
        const [x, y, w, h] = lying ? [box[1], box[0], box[3], box[2]] : box;
        const edge = trace.marker.line ?? {};
        shape("rect", { x, y, width: w, height: h, rx: 2, fill: trace.marker.color, stroke: edge.color ?? "none", "stroke-width": edge.width ?? 0 }, svg);
        if (!spread?.array) return;
        const middle = (near + far) / 2;
        const [low, high] = [values[i] - (spread.arrayminus ?? spread.array)[i], values[i] + spread.array[i]].map(lying ? across : up);
        line(...(lying ? [low, middle, high, middle] : [middle, low, middle, high]), spread.color);
      });
    }
    for (const note of layout.annotations ?? []) {
      const x = (note.xref === "paper" ? l + width * note.x : across(note.x)) + (note.xshift ?? 0);
      const y = (note.yref === "paper" ? t + height * (1 - note.y) : up(note.y)) - (note.yshift ?? 0);
      const anchor = { left: "start", right: "end" }[note.xanchor] ?? "middle";
      write(svg, note.text, x, y, { ...usual.font, ...usual.annotationdefaults.font, ...note.font, anchor, from: note.yanchor ?? "middle" });
    }
    stage.replaceChildren(svg);
    return true;
  }

  // ---------------------------------------------------------------- one view
  class View {
    constructor(element, props, trigger) {
      this.props = props;
      this.trigger = trigger;
      this.root = element.querySelector(".nm-view");
      this.stage = element.querySelector(".nm-stage");
      this.words = element.querySelector(".nm-message");
      this.alt = element.querySelector(".nm-alt");
      this.live = element.querySelector(".nm-live");
      this.marker = element.querySelector(".nm-cursor");
      this.bubble = element.querySelector(".nm-bubble");
      this.visible = false;
      this.dirty = true;
      this.busy = false;
      this.cursor = null;
      this.font = getComputedStyle(this.root).fontFamily;

      this.sight = new IntersectionObserver((entries) => {
        this.visible = entries[entries.length - 1].isIntersecting;
        if (this.visible && this.dirty) this.request();
      }, { rootMargin: "240px" });
      this.sight.observe(this.root);
      this.size = new ResizeObserver(() => {
        if (this.drawnWidth && Math.abs(this.width() - this.drawnWidth) > 1) this.redraw();
      });
      this.size.observe(this.root);
      element.querySelector(".nm-tools").addEventListener("click", (event) => {
        const action = event.target.closest("button")?.dataset.do;
        if (action) this.act(action);
      });
      this.stage.addEventListener("keydown", (event) => this.key(event));
      this.stage.addEventListener("blur", () => this.hideCursor());
      this.value();
    }

    width() { return this.root.clientWidth; }

    /* A new value from the server. */
    value() {
      let parsed = null;
      try {
        parsed = this.props.value ? JSON.parse(this.props.value) : { message: "", kind: "loading" };
      } catch {
        parsed = { message: "This figure arrived damaged. Move a control to draw it again.", kind: "error" };
      }
      this.figure = parsed.data ? parsed : null;
      if (this.figure) {
        this.alt.textContent = parsed.alt;
        this.stage.setAttribute("aria-label", parsed.alt);
        // A box without a figure may take no room, and what takes no room never comes into sight.
        if (this.root.dataset.state === "absent") this.root.dataset.state = "loading";
        this.redraw();
      } else {
        this.say(parsed.message, parsed.kind);
      }
    }

    redraw() {
      if (!this.root.isConnected) return this.close();
      this.dirty = true;
      if (this.root.dataset.state === "sketched") this.sketch();
      if (this.visible) this.request();
    }

    request() {
      if (this.busy || this.frame || !this.figure) return;
      this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
    }

    async draw() {
      this.busy = true;
      this.dirty = false;
      if (!window.Plotly) this.sketch();
      try {
        await loadPlotly();
      } catch {
        this.busy = false;
        this.dirty = true;
        return this.say("The drawing library did not load. Check the connection, then try again.", "error");
      }
      const figure = this.figure;
      if (!figure || !this.root.isConnected) { this.busy = false; return; }
      const width = this.width();
      if (!width) { this.busy = false; this.dirty = true; return; }
      try {
        const narrow = width < NARROW;
        const { data, layout } = this.sized(figure, width, narrow);
        layout.autosize = false;
        layout.uirevision = `${layout.uirevision ?? figure.name}${narrow ? " narrow" : ""}`;
        if (narrow || matchMedia("(pointer: coarse)").matches) layout.dragmode = false;
        this.stage.style.height = `${layout.height}px`;
        if (this.root.dataset.state === "sketched") this.stage.replaceChildren();
        this.root.dataset.state = "drawn";
        this.words.hidden = true;
        await window.Plotly.react(this.stage, data, layout, { displayModeBar: false, displaylogo: false, doubleClick: "reset" });
        this.drawnWidth = width;
        if (this.cursor) this.repoint();
        if (!this.ready) this.wire();
      } catch (error) {
        console.error("A figure could not be drawn:", error);
        this.say("This figure could not be drawn. Its numbers are in the table or CSV.", "error");
      }
      this.busy = false;
      if (this.dirty && this.visible) this.request();
      else this.root.dataset.drawn = String(Number(this.root.dataset.drawn ?? 0) + 1);
    }

    sized(figure, width, narrow) {
      const { data, layout } = prepared(figure, narrow, this.font);
      return { data, layout: { ...layout, width } };
    }

    /* The numbers must not wait for the library. */
    sketch() {
      const width = this.width();
      if (!this.figure || !width) return;
      const drawing = this.sized(this.figure, width, width < NARROW);
      if (!sketch(this.stage, drawing, this.font)) return;
      this.stage.style.height = `${drawing.layout.height}px`;
      this.root.dataset.state = "sketched";
      this.words.hidden = true;
    }

    wire() {
      this.ready = true;
      this.stage.on("plotly_click", (event) => this.pick(event.points[0]));
      this.stage.on("plotly_relayout", (change) => {
        const zoomed = Object.keys(change).some((key) => key.includes("axis") && key.includes("range["));
        const reset = Object.keys(change).some((key) => key.endsWith("autorange"));
        if (zoomed || reset) this.root.toggleAttribute("data-zoomed", zoomed && !reset);
      });
    }

    /* Tell Python what was chosen; it checks every index again. */
    pick(point) {
      const source = point?.data?.meta?.source;
      if (!source) return;
      const at = point.pointIndex ?? point.pointNumber;
      if (Array.isArray(at)) {
        if (point.data.z[at[0]][at[1]] === null) return;
        const { x, y } = point.data;
        this.trigger({ source, row: at[0], column: at[1], ...(x && y ? { x: x[at[1]], y: y[at[0]] } : {}) });
      } else {
        const index = point.data.meta.index ? point.data.meta.index[at] : at;
        if (index >= 0) this.trigger({ source, index });
      }
    }

    // ------------------------------------------------------------ keyboard: arrows walk, Enter chooses, Escape leaves
    lanes() {
      return (this.stage.data ?? []).map((trace, curve) => ({ trace, curve }))
        .filter(({ trace }) => trace.hoverinfo !== "skip" && trace.visible !== false && (trace.z || trace.x?.length));
    }

    key(event) {
      if (!this.ready || event.target !== this.stage) return;
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const lanes = this.lanes();
      if (event.key === "Escape") {
        this.hideCursor();
        return;
      }
      if (event.key === "Enter" || event.key === " ") {
        if (!this.cursor) return;
        event.preventDefault();
        const { lane, row, column } = this.cursor;
        const trace = lanes[lane].trace;
        this.pick({ data: trace, pointIndex: trace.z ? [row, column] : column });
        return;
      }
      if (!step || !lanes.length) return;
      event.preventDefault();
      const size = (lane) => {
        const { trace } = lanes[lane];
        return trace.z ? [trace.z.length, trace.z[0].length] : [1, trace.x.length];
      };
      let { lane, row, column } = this.cursor ?? { lane: 0, row: step[0] < 0 ? 1 : step[0] ? -1 : 0, column: step[1] > 0 ? -1 : step[1] ? 1 : 0 };
      lane = Math.min(lane, lanes.length - 1);
      row += step[0];
      column += step[1];
      const [rows, columns] = size(lane);
      // Past the edge a step goes on to the neighbouring panel or series.
      const sideways = lanes[lane].trace.z ? step[1] : step[0];
      if (column >= columns && lanes[lane].trace.z && lane + 1 < lanes.length) { lane += 1; column = 0; }
      else if (column < 0 && lanes[lane].trace.z && lane > 0) { lane -= 1; column = size(lane)[1] - 1; }
      else if (!lanes[lane].trace.z && sideways) { lane = Math.max(0, Math.min(lanes.length - 1, lane + sideways)); row = 0; }
      const [height, width] = size(lane);
      row = Math.max(0, Math.min(height - 1, row));
      column = Math.max(0, Math.min(width - 1, column));
      this.cursor = { lane, row, column };
      const { trace, curve } = lanes[lane];
      this.point(trace, curve);
    }

    /* Frame what the cursor is on, and say it: on the picture and to screen readers. */
    point(trace, curve) {
      const { row, column } = this.cursor;
      const full = this.stage._fullData[curve];
      const x = this.stage._fullLayout[(full.xaxis ?? "x").replace("x", "xaxis")];
      const y = this.stage._fullLayout[(full.yaxis ?? "y").replace("y", "yaxis")];
      const near = (axis, values, i) => axis._offset + axis.c2p(axis.d2c(values ? values[i] : i));
      const cell = (axis, values, i) => {
        const count = values?.length ?? i + 2;
        const next = i + 1 < count ? i + 1 : i - 1;
        const half = count > 1 ? Math.abs(near(axis, values, next) - near(axis, values, i)) / 2 : 8;
        return [near(axis, values, i) - half, 2 * half];
      };
      // Grouped bars stand beside the place they belong to.
      const beside = (along) => (trace.type === "bar" && along === (trace.orientation === "h") ? (trace.offset ?? 0) + (trace.offset === undefined ? 0 : trace.width / 2) : 0);
      const dot = (axis, values, i, shift) => [axis._offset + axis.c2p(axis.d2c(values[i]) + shift) - 9, 18];
      const [left, width] = trace.z ? cell(x, trace.x, column) : dot(x, trace.x, column, beside(false));
      const [top, height] = trace.z ? cell(y, trace.y, row) : dot(y, trace.y, column, beside(true));
      const lines = this.lines(trace, row, column);
      this.live.textContent = lines.join(". ");
      this.bubble.textContent = lines.join("\n");
      Object.assign(this.marker.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
      this.marker.classList.toggle("nm-round", !trace.z);
      this.bubble.style.top = `${top + height + 6}px`;
      this.bubble.style.left = `${Math.max(0, Math.min(left, this.width() - 260))}px`;
      this.marker.hidden = this.bubble.hidden = false;
    }

    /* After a redraw the cursor stays where it was, over the new numbers. */
    repoint() {
      const lanes = this.lanes();
      const { trace, curve } = lanes[Math.min(this.cursor.lane, lanes.length - 1)] ?? {};
      const fits = trace && (trace.z ? trace.z[this.cursor.row]?.[this.cursor.column] !== undefined : this.cursor.column < trace.x.length);
      if (fits) this.point(trace, curve);
      else this.hideCursor();
    }

    hideCursor() {
      this.cursor = null;
      this.marker.hidden = this.bubble.hidden = true;
    }

    /* What lies under the cursor, line by line. */
    lines(trace, row, column) {
      const bare = (text) => String(text).split("<br>").map((line) => {
        const node = document.createElement("template");
        node.innerHTML = line;
        return node.content.textContent;
      });
      const written = trace.z ? trace.hovertext?.[row]?.[column] ?? trace.text?.[row]?.[column] : null;
      if (written && trace.hovertemplate !== undefined && !trace.hovertemplate.includes("%{z")) return bare(written);
      const name = (key) => this.figure.columns[key] ?? key;
      const pairs = trace.z
        ? [["x", trace.x?.[column] ?? column], ["y", trace.y?.[row] ?? row], ["z", trace.z[row][column]]]
        : [["x", trace.x[column]], ["y", trace.y[column]]];
      const label = Array.isArray(trace.hovertext) ? trace.hovertext[column] : null;
      const head = [trace.name, label].filter(Boolean).join(": ");
      const values = pairs.filter(([key]) => name(key)).map(([key, value]) => `${name(key)} ${value ?? "none"}`);
      return bare([head, ...values].filter(Boolean).join("<br>"));
    }

    // ------------------------------------------------------------ toolbar
    async act(action) {
      if (action === "retry") { this.words.hidden = true; this.root.dataset.state = "loading"; this.redraw(); return; }
      if (!this.figure) return;
      const name = this.figure.name;
      if (action === "csv") {
        const url = URL.createObjectURL(new Blob([toCsv(this.figure)], { type: "text/csv" }));
        save(url, `${name}.csv`);
        setTimeout(() => URL.revokeObjectURL(url), 1000);
      } else if (!this.ready) {
        return;
      } else if (action === "reset") {
        const changes = {};
        for (const name of Object.keys(this.stage._fullLayout).filter((key) => /^[xy]axis\d*$/.test(key))) {
          const { _rangeInitial0: low, _rangeInitial1: high } = this.stage._fullLayout[name];
          if (low === undefined) changes[`${name}.autorange`] = true;
          else changes[`${name}.range`] = [low, high];
        }
        await window.Plotly.relayout(this.stage, changes);
        this.root.removeAttribute("data-zoomed");
      } else {
        const { width, height } = this.stage._fullLayout;
        const surface = TOKENS[isDark() ? "dark" : "light"].surface;
        const picture = { data: this.stage.data, layout: { ...this.stage.layout, paper_bgcolor: surface } };
        save(await window.Plotly.toImage(picture, { format: action, width, height, scale: action === "png" ? 2 : 1 }), `${name}.${action}`);
      }
    }

    say(text, kind) {
      this.root.dataset.state = text || kind === "loading" ? kind ?? "empty" : "absent";
      this.words.querySelector("span").textContent = text;
      this.words.querySelector("button").hidden = !(kind === "error" && this.figure);
      this.words.hidden = !text;
      this.words.setAttribute("role", kind === "error" ? "alert" : "status");
    }

    close() {
      this.sight.disconnect();
      this.size.disconnect();
      if (this.ready) window.Plotly.purge(this.stage);
      views.delete(this);
    }
  }

  function mount(element, props, trigger, watch) {
    views.forEach((view) => { if (!view.root.isConnected) view.close(); });
    if (wasDark === null) {
      wasDark = isDark();
      watchTheme.observe(document.body, { attributes: true, attributeFilter: ["class"] });
      watchTheme.observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
    }
    const view = new View(element, props, trigger);
    views.add(view);
    watch("value", () => view.value());
    return view;
  }

  return { mount };
})();
