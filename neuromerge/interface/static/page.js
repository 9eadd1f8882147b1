/* What the page itself does in the browser: tabs by arrow keys and as steps of the browser's history, menus that open
 * again, and what a click opened brought into view, with a way back. */

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

const tabs = () => [...document.querySelectorAll('#tabs [role="tab"]')].filter((tab) => tab.offsetParent);
const keyOf = (tab) => /^tab-(.+)-button$/.exec(tab.id)?.[1];
const asked = () => new URLSearchParams(location.search).get("tab") ?? (tabs()[0] && keyOf(tabs()[0]));

/* Show an element, and move the page no further than that takes: what was clicked may stay in sight, too. */
export function bring(id) {
  document.getElementById(id)?.scrollIntoView({ block: "nearest" });
}

/* A tab that is opened, by whom ever, is a step to come back from. */
document.addEventListener("click", (event) => {
  const tab = event.target.closest?.('#tabs [role="tab"]');
  const key = tab && keyOf(tab);
  if (!key || key === asked()) return;
  history.replaceState({ ...history.state, scroll: scrollY }, "");
  const address = new URL(location.href);
  address.searchParams.set("tab", key);
  history.pushState({}, "", address);
}, true);

window.addEventListener("popstate", (event) => {
  const key = asked();
  const tab = document.getElementById(`tab-${key}-button`);
  if (tab && tab.getAttribute("aria-selected") !== "true") tab.click();
  const scroll = event.state?.scroll;
  if (scroll !== undefined) requestAnimationFrame(() => scrollTo(0, scroll));
});

/* Arrow keys walk the tabs, Home and End go to the first and the last. */
document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.('#tabs [role="tab"]');
  if (!tab || event.altKey || event.ctrlKey || event.metaKey) return;
  const all = tabs();
  const goal = { Home: all[0], End: all.at(-1) }[event.key]
    ?? (STEPS[event.key] && all.at((all.indexOf(tab) + STEPS[event.key]) % all.length));
  if (!goal) return;
  event.preventDefault();
  goal.focus();
  goal.click();
});

/* Gradio opens a menu when it is given the focus: one that Escape closed still has it, and would stay closed. */
function reopen(event) {
  const menu = event.target.closest?.("input[aria-expanded]");
  if (!menu || menu !== document.activeElement || menu.getAttribute("aria-expanded") !== "false") return;
  menu.blur();
  menu.focus();
}
document.addEventListener("pointerdown", reopen);
document.addEventListener("keydown", (event) => { if (event.key === "ArrowDown") reopen(event); }, true);

document.addEventListener("click", (event) => {
  const back = event.target.closest?.(".nm-back");
  if (!back) return;
  const goal = document.getElementById(back.dataset.to);
  goal.scrollIntoView({ block: "center" });
  goal.querySelector("[tabindex], button")?.focus({ preventScroll: true });
});

/* The page's address with a permalink in it, and what a teacher's link adds to one. */
const LESSON = ["step", "hide"];

function address(query) {
  const url = new URL(`${location.pathname}?${query}`, location.origin);
  const now = new URLSearchParams(location.search);
  const kept = LESSON.filter((name) => now.has(name)).map((name) => `${name}=${encodeURIComponent(now.get(name)).replaceAll("%2C", ",")}`);
  return [url.href, ...kept].join("&");
}

window.NeuroMergePage = { address };
