"""All methods in one table: as it grows, sorted, stopped, and put into the controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from neuromerge.interface.components.comparison import comparison_table
from neuromerge.search.compare import ComparedRow, Comparison
from tests.interface.conftest import Visitor


def row(title: str, mean: float, **more: object) -> ComparedRow:
    interval = (mean - 0.1, mean + 0.1)
    known = {"name": "x", "kind": "default", "hyperparameters": {"scale": 0.3}, "normalised": None, "method": "ties"}
    return ComparedRow(
        title=title,
        accuracy={"digits": mean},
        interval={"digits": interval},
        mean=mean,
        mean_interval=interval,
        **{**known, **more},  # type: ignore[arg-type]
    )


def test_numbers_come_with_intervals_and_texts_are_no_markup() -> None:
    rows = (row("<b>Base</b>", 0.5, kind="base", method=""), row("TIES", 0.61))
    found = Comparison("toy", ("digits",), "quick", {"digits": 16}, 0, rows, ("<i>torn</i>.",), done=1, entries=2)
    told = comparison_table(found, {"digits": "Digits"}, running=True)
    assert "1 of 2 methods and variants, being measured" in told
    assert "<b>61.0</b> <span class='nm-hint'>51 to 71</span>" in told
    assert "<b>Base</b>" not in told
    assert "<i>torn" not in told
    assert told.count("data-row=") == 1
    assert "stopped" in comparison_table(found, {}, running=False)
    assert "all there are" in comparison_table(replace(found, done=2), {}, running=False)
    refined = comparison_table(replace(found, refined_on=1_600), {}, running=True)
    assert "All 2 on 16 pictures; 1 of them on 1,600, being measured" in refined


def test_the_table_is_sorted_by_any_column_and_used(visit: Callable[..., Visitor]) -> None:
    from playwright.sync_api import expect

    page = visit().open(tab="Tune")
    page.locator("#compare-methods").click()
    table = page.locator("#compared table")
    expect(page.locator("#compared [role=status]")).to_contain_text("all there are")
    expect(page.locator("#compared .nm-note")).to_contain_text("torn.png")
    means = "rows => rows.map(row => Number(row.cells[2].dataset.sort))"
    head = table.get_by_role("button", name="Mean")
    head.click()
    expect(table.locator("th[aria-sort=descending]")).to_have_text("Mean")
    found = table.locator("tbody tr").evaluate_all(means)
    assert found == sorted(found, reverse=True)
    assert len(set(found)) > 5
    head.click()
    assert table.locator("tbody tr").evaluate_all(means) == sorted(found)
    table.get_by_role("button", name="Model").click()
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names, key=str.lower)
    row = table.locator("tbody tr").filter(has_text="TIES").filter(has_text="published default").first
    row.get_by_role("button", name="Use").click()
    expect(page.locator("#method input")).to_have_value("TIES")
    expect(table.locator("th[aria-sort=ascending]")).to_have_text("Model")
