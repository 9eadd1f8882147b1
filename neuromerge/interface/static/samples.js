/* The sample picture behind a point: shown beside it while it is pointed at, or while the keyboard stands on it. */
const SHEET = "nm-samples";
const OFF_PX = 14;

/* Which picture of the sheet a point of a trace shows; undefined where it shows none. */
export const sampleOf = (trace, place) => trace.meta?.samples?.[place];

/* Show picture `number` in `root`, near a place in it. */
export function showSample(root, number, x, y) {
  hideSample(root);
  const sheet = document.getElementById(SHEET);
  if (number === undefined || !sheet) return;
  const [columns, size] = [Number(sheet.dataset.columns), Number(sheet.dataset.size)];
  const shown = document.createElement("div");
  shown.className = "nm-sample";
  const right = x + OFF_PX + size > root.clientWidth;
  Object.assign(shown.style, {
    width: `${size}px`,
    height: `${size}px`,
    left: `${right ? x - OFF_PX - size : x + OFF_PX}px`,
    top: `${Math.max(0, y - OFF_PX - size)}px`,
    backgroundImage: `url("${sheet.src}")`,
    backgroundPosition: `-${(number % columns) * size}px -${Math.floor(number / columns) * size}px`,
  });
  root.append(shown);
}

export function hideSample(root) {
  root.querySelector(".nm-sample")?.remove();
}
