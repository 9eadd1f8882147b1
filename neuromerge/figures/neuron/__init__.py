"""One neuron drawn from its real numbers: what the tasks want, what the vote decides, what that does to its answers.

Task vectors are a few percent of the weights they change. Drawn to scale they vanish at the tip of the base
vector, so each picture is an enlargement around it, and a small inset shows the same thing at true scale.
"""

from neuromerge.figures.neuron.answers import pre_activations
from neuromerge.figures.neuron.coordinates import merged_change
from neuromerge.figures.neuron.plane import neuron_plane
from neuromerge.figures.neuron.votes import votes

__all__ = ["merged_change", "neuron_plane", "pre_activations", "votes"]
