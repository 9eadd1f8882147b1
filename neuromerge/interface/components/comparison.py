"""All methods in one table, sorted by any column in the browser."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import gradio as gr

from neuromerge.interface.components.pictures import notes_below
from neuromerge.search.compare import COLUMNS, ComparedRow, Comparison
from neuromerge.settings.choices import short

NOTHING_YET = (
    "<p class='nm-empty'>Press Compare all methods: each merges the ticked experts, as published and by retention, "
    "without looking at pictures first.</p>"
)
_KINDS = {"base": "", "expert": "", "given": "as the controls are", **COLUMNS}

# A table that grows keeps the order that was asked for.
SORTING = """
let wanted = null;
const value = (row, column) => {
  const said = row.cells[column].dataset.sort;
  return said !== undefined && said !== '' ? Number(said) : row.cells[column].textContent.trim().toLowerCase();
};
const sort = () => {
  const table = element.querySelector('table.nm-compared');
  if (!table || !wanted) { return; }
  const { column, up } = wanted, body = table.tBodies[0];
  const rows = [...body.rows].sort((one, other) => {
    const a = value(one, column), b = value(other, column);
    if (typeof a !== typeof b) { return typeof a === 'number' ? -1 : 1; }
    return (up ? 1 : -1) * (a < b ? -1 : a > b ? 1 : 0);
  });
  if (rows.some((row, place) => body.rows[place] !== row)) { body.append(...rows); }
  for (const head of table.tHead.rows[0].cells) { head.removeAttribute('aria-sort'); }
  table.tHead.rows[0].cells[column].setAttribute('aria-sort', up ? 'ascending' : 'descending');
};
element.addEventListener('click', (event) => {
  const head = event.target.closest('[data-column]');
  if (head) {
    const column = Number(head.dataset.column), numbers = head.dataset.numbers === 'yes';
    wanted = { column, up: wanted && wanted.column === column ? !wanted.up : !numbers };
    sort();
  }
  const button = event.target.closest('[data-row]');
  if (button) { trigger('apply', {row: Number(button.dataset.row)}); }
});
new MutationObserver(sort).observe(element, { childList: true, subtree: true });
"""


class ComparisonTable(gr.HTML):
    """Rows of a comparison; the event ``apply`` carries the number of the row whose button was pressed."""

    def __init__(self, **more: Any) -> None:
        super().__init__(value=NOTHING_YET, js_on_load=SORTING, **more)

    def get_block_name(self) -> str:
        """Gradio draws this with the frontend of its HTML component."""
        return "html"


def comparison_table(found: Comparison, titles: Mapping[str, str], *, running: bool) -> str:
    """HTML of a comparison, a row a model, as far as it has come."""
    heads = ["Model", "Coefficients", "Mean", *(titles.get(task, task) for task in found.tasks), "Of experts"]
    head = "".join(
        f"<th scope='col'><button type='button' data-column='{column}' data-numbers='{'yes' if column > 1 else 'no'}'>"
        f"{html.escape(title)}</button></th>"
        for column, title in enumerate(heads)
    )
    body = "".join(_row(place, row, found) for place, row in enumerate(found.rows))
    state = "being measured" if running else "all there are" if found.done == found.entries else "stopped"
    images = sum(found.n.values())
    count = f"{found.done} of {found.entries} methods and variants, {state}"
    if found.refined_on:
        count = f"All {found.entries} on {images:,} pictures; {found.done} of them on {found.refined_on:,}, {state}"
    return (
        f"<p class='nm-hint' role='status'>{count}.</p>"
        "<div class='nm-scroll' tabindex='0'><table class='nm-table nm-compared'><caption>Accuracy in percent with its "
        f"95 % interval, {found.split} split, {images:,} pictures. Press a heading to sort.</caption>"
        f"<thead><tr>{head}<th scope='col'><span class='nm-alt'>Use</span></th></tr></thead><tbody>{body}</tbody>"
        f"</table></div>{notes_below(found.notes)}"
    )


def _row(place: int, row: ComparedRow, found: Comparison) -> str:
    values = ", ".join(f"{name} {short(value)}" for name, value in row.hyperparameters.items())
    share = "–" if row.normalised is None else f"{100 * row.normalised:.1f}"
    use = f"<button type='button' data-row='{place}'>Use</button>" if row.method and row.kind != "given" else ""
    tasks = "".join(_cell(row.accuracy[task], row.interval[task]) for task in found.tasks)
    return (
        f"<tr><th scope='row'>{html.escape(row.title)}</th>"
        f"<td title='{html.escape(values, quote=True)}'>{html.escape(_KINDS[row.kind])}</td>"
        f"{_cell(row.mean, row.mean_interval)}{tasks}"
        f"<td data-sort='{'' if row.normalised is None else row.normalised}'>{share}</td><td>{use}</td></tr>"
    )


def _cell(share: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return (
        f"<td data-sort='{share}'><b>{100 * share:.1f}</b> <span class='nm-hint'>{100 * low:.0f} to {100 * high:.0f}"
        "</span></td>"
    )
