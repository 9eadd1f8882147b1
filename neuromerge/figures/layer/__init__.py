"""One cell of the interference map, opened: its neurons, its tasks, and what the vote did to them."""

from neuromerge.figures.layer.alpha import alpha_histogram
from neuromerge.figures.layer.contested import contested_neurons
from neuromerge.figures.layer.cosines import task_cosines
from neuromerge.figures.layer.neurons import neurons_by_tasks

__all__ = ["alpha_histogram", "contested_neurons", "neurons_by_tasks", "task_cosines"]
