"""Searching for coefficients: the landscape of validation accuracy, the trials that explored it, what mattered."""

from neuromerge.figures.tuning.importances import importance_bars
from neuromerge.figures.tuning.landscape import landscape_contour
from neuromerge.figures.tuning.names import coefficient
from neuromerge.figures.tuning.trials import parallel_coordinates

__all__ = ["coefficient", "importance_bars", "landscape_contour", "parallel_coordinates"]
