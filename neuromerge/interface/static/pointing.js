/* Show a control, wherever it is: in a closed sidebar, in a folded box, below what is seen. */
const SHOWN_MS = 6000, SLIDES_MS = 350;
const FOCUSABLE = "input:not([type=hidden]):not([disabled]), button:not([disabled]), [tabindex='0']";

let shown = null;

/* Take the frame from the control that was shown last. */
export function unpoint() {
  clearTimeout(shown?.timer);
  shown?.node.classList.remove("nm-pointed");
  shown = null;
}

/* Open what hides the control with that id: the sidebar. */
function reveal(node) {
  const sidebar = node.closest(".sidebar");
  if (!sidebar || sidebar.classList.contains("open")) return 0;
  sidebar.querySelector(".toggle-button")?.click();
  return SLIDES_MS;
}

/* Frame a control and bring it into sight; `ms` later the frame goes, 0 leaves it until another is shown. */
export function frame(id, ms = 0) {
  unpoint();
  const node = document.getElementById(id);
  if (!node) return null;
  node.classList.add("nm-pointed");
  shown = { node, timer: ms ? setTimeout(unpoint, ms) : 0 };
  return node;
}

export function point(id) {
  const node = frame(id, SHOWN_MS);
  if (!node) return;
  setTimeout(() => {
    node.scrollIntoView({ block: "center" });
    (node.querySelector("input[type=range]") ?? node.querySelector(FOCUSABLE) ?? node).focus({ preventScroll: true });
  }, reveal(node));
}

document.addEventListener("click", (event) => {
  const id = event.target.closest?.("[data-point]")?.dataset.point;
  if (id) point(id);
});
