/* The tour's panel: what its server says of it (see interface/lesson/tour.py), done to the page. And what a link hides. */
import { frame, unpoint } from "./pointing.js";

const PATIENCE_MS = 8000, LOOK_MS = 100;

const panel = () => document.getElementById("tour");
const asked = new URLSearchParams(location.search);

/* What a teacher's link leaves out: names that style sheets look for. */
const hidden = (asked.get("hide") ?? "").split(",").filter((name) => /^[a-z0-9_]+$/.test(name));
if (hidden.length) document.body.dataset.hide = hidden.join(" ");

/* The step in the address, so that a reload leads back to it. */
function note(step) {
  const address = new URL(location.href);
  if (step) address.searchParams.set("step", step);
  else address.searchParams.delete("step");
  history.replaceState(history.state, "", address);
}

let looking = 0;

/* Once the figure is there (its tab may still be opening), frame the control, and bring the figure into sight where it
 * is not in sight already. */
function pointWhenThere(id, control) {
  clearInterval(looking);
  const begun = Date.now();
  looking = setInterval(() => {
    const node = document.getElementById(id);
    if (node?.offsetParent) {
      clearInterval(looking);
      frame(control)?.scrollIntoView({ block: "nearest" });
      const { top, bottom } = node.getBoundingClientRect();
      const room = document.documentElement.clientHeight - covered();
      if (top < 0 || bottom > room) node.scrollIntoView({ block: "start" });
    } else if (Date.now() - begun > PATIENCE_MS) clearInterval(looking);
  }, LOOK_MS);
}

/* How much of the screen's foot the panel covers where it is a sheet. */
function covered() {
  const box = panel()?.getBoundingClientRect();
  return box && box.width > 0.9 * document.documentElement.clientWidth ? box.height : 0;
}

function show({ mode, step, figure, control }) {
  const before = document.body.dataset.tour ?? "closed";
  document.body.dataset.tour = mode;
  if (before === "closed" && mode !== "closed") {
    panel().setAttribute("role", "complementary");
    panel().setAttribute("aria-label", "Guided tour");
  }
  if (mode !== "open") {
    unpoint();
    note(0);
    if (mode === "closed" && before !== "closed") document.getElementById("tour-open")?.focus();
    return;
  }
  note(step);
  panel().scrollTop = 0;
  fold(false);
  unpoint();
  pointWhenThere(figure, control);
}

function fold(is) {
  document.body.toggleAttribute("data-tour-folded", is);
  const button = document.querySelector(".nm-fold");
  button?.setAttribute("aria-expanded", String(!is));
  if (button) button.textContent = is ? "Unfold" : "Fold";
}

document.addEventListener("click", (event) => {
  if (event.target.closest?.(".nm-fold")) fold(!document.body.hasAttribute("data-tour-folded"));
});

/* An answer of the quiz is right or wrong, and why. */
document.addEventListener("change", (event) => {
  const field = event.target.closest?.(".nm-quiz fieldset");
  if (!field) return;
  const right = event.target.value === field.dataset.right;
  const says = field.querySelector("[data-why]");
  field.dataset.answer = right ? "right" : "wrong";
  says.textContent = `${right ? "✓ Right." : "✗ Not quite."} ${says.dataset.why}`;
});

window.NeuroMergeTour = { show };
