"""The interference map: its two heatmaps, and the same numbers as a table."""

from neuromerge.figures.interference.heatmaps import interference_heatmaps
from neuromerge.figures.interference.table import as_rows, as_table

__all__ = ["as_rows", "as_table", "interference_heatmaps"]
