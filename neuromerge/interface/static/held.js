/* Scales that stay while a slider moves: what moves is the numbers, and the eye can follow them. */

const RANGE = "input[type=range], .nm-curve [role=slider]";
const KEYS_REST_MS = 400;

let moving = false;
let resting = 0;
const waiting = new Set();

export const isMoving = () => moving;

function begin() {
  clearTimeout(resting);
  moving = true;
}

function rest() {
  moving = false;
  const late = [...waiting];
  waiting.clear();
  late.forEach((then) => then());
}

const onRange = (then) => (event) => { if (event.target.closest?.(RANGE)) then(event); };

/* A pointer holds until it lets go, wherever that is; a key until no other has followed for a moment. */
document.addEventListener("pointerdown", onRange(begin), true);
for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, () => { if (moving) rest(); }, true);
document.addEventListener("keydown", onRange(begin), true);
document.addEventListener("keyup", () => {
  if (!moving) return;
  clearTimeout(resting);
  resting = setTimeout(rest, KEYS_REST_MS);
}, true);

/* Call `then` once the slider that moves has come to rest. */
export const whenAtRest = (then) => waiting.add(then);

const at = (layout, path) => path.reduce((inside, key) => inside?.[key], layout);

function put(layout, [key, ...inner], value) {
  return { ...layout, [key]: inner.length ? put(layout[key] ?? {}, inner, value) : value };
}

/* `layout` with the parts in `paths` as they are in `before`. */
export function withHeld(layout, before, paths) {
  return paths.map((path) => path.split(".")).reduce((held, path) => {
    const value = at(before, path);
    return value === undefined ? held : put(held, path, value);
  }, layout);
}

const GREY = "rgb(128, 128, 128)";

/* `layout` with the frame that its axes had in `before`, dotted, where they have another one now. */
export function withFrame(layout, before) {
  const [was, is] = [before, layout].map(({ xaxis, yaxis }) => [...(xaxis?.range ?? []), ...(yaxis?.range ?? [])]);
  if (was.length < 4 || is.length < 4 || was.every((end, i) => end === is[i])) return layout;
  const [x0, x1, y0, y1] = was;
  const frame = { type: "rect", xref: "x", yref: "y", x0, x1, y0, y1, line: { color: GREY, width: 1, dash: "dot" } };
  return { ...layout, shapes: [...(layout.shapes ?? []), frame] };
}
