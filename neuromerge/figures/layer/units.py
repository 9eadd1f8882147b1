"""What one row of a parameter is called."""

from __future__ import annotations

from neuromerge.exploration.results import LayerDetail


def unit(detail: LayerDetail) -> str:
    """One of them: a neuron has inputs, an entry is merged by itself."""
    return "neuron" if detail.kind == "neurons" else "entry"


def units(detail: LayerDetail) -> str:
    """Many of them."""
    return "neurons" if detail.kind == "neurons" else "entries"
