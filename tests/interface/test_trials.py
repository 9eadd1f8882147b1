"""The words about a search: its table, its progress, and how to read its winner."""

from __future__ import annotations

from neuromerge.interface.tabs.tune import noise_html, progress_bar, trial_rows
from neuromerge.search.trials import Trial

WHOLE = Trial(0, "tpe", {"scale": 1.0}, 0.8, 9.0, "complete", {"digits": 0.8}, pictures=1_600)
FLATTERED = Trial(1, "tpe", {"scale": 2.0}, 0.9, 1.0, "pruned", {"digits": 0.9}, pictures=128)


def test_a_trial_that_was_given_up_early_comes_last_and_says_so() -> None:
    rows = trial_rows([FLATTERED, WHOLE])
    assert rows.index("tpe 0") < rows.index("tpe 1")
    assert "<td>1,600</td>" in rows
    assert "<td>128, given up early</td>" in rows
    assert rows.index("data-row='1'") < rows.index("data-row='0'"), "a button names the place among all trials"


def test_without_numbers_of_pictures_there_is_no_such_column() -> None:
    assert "Pictures" not in trial_rows([Trial(0, "hand", {}, 0.5, 1.0, "complete")])


def test_the_progress_counts_who_was_given_up() -> None:
    assert "5 of 9 trials (2 given up early)" in progress_bar(5, 9, 2, running=True)
    assert "5 of 9 trials, stopped" in progress_bar(5, 9)


def test_the_winner_is_read_with_the_pictures_it_was_scored_on() -> None:
    assert "on 1,600 validation pictures" in noise_html("Mean accuracy", WHOLE, 0.8, WHOLE.pictures, 12)
