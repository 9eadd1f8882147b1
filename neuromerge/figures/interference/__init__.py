"""The interference map: its heatmaps, what they say in a sentence, and the same numbers as a table."""

from neuromerge.figures.interference.arrows import arrows_html
from neuromerge.figures.interference.difference import difference
from neuromerge.figures.interference.drift import drift_headline, drift_heatmaps
from neuromerge.figures.interference.heatmaps import interference_heatmaps
from neuromerge.figures.interference.pairs import kept_shares, task_pairs
from neuromerge.figures.interference.pairs_sentence import pairs_headline
from neuromerge.figures.interference.sentence import CellLink, Sentence, headline
from neuromerge.figures.interference.table import as_rows, as_table

__all__ = [
    "CellLink",
    "Sentence",
    "arrows_html",
    "as_rows",
    "as_table",
    "difference",
    "drift_headline",
    "drift_heatmaps",
    "headline",
    "interference_heatmaps",
    "kept_shares",
    "pairs_headline",
    "task_pairs",
]
