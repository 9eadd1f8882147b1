"""One neuron computed by hand: its real numbers from two arrows to the merge, line by line.

Each line names what it is about in the pictures above it: ``static/walk.js`` rings that while the line is pointed at or
has the focus.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuromerge.exploration.results import NeuronDetail
from neuromerge.figures.neuron import merged_change
from neuromerge.figures.numbers import signed

PLANE, ANSWERS, VOTES = "neuron-plane", "neuron-answers", "neuron-votes"
Light = tuple[str, str, list[int]]
"""A figure's id, a trace's name, and points of it; of a heatmap (row, column) pairs, flattened."""
MOST_TERMS = 4


@dataclass(frozen=True)
class Line:
    """One step: its name, what is computed, and what it is about in the pictures."""

    title: str
    text: str
    lights: tuple[Light, ...]


def walk(detail: NeuronDetail, direction: int, titles: Mapping[str, str]) -> str:
    """HTML of the lines; a note where the neuron has nothing to compute."""
    found = lines(detail, direction, titles)
    if not found:
        return "<p class='nm-hint'>No expert moves this neuron: there is nothing to compute.</p>"
    items = "".join(
        f"<li tabindex='0' data-lights='{html.escape(json.dumps(line.lights), quote=True)}'>"
        f"<b>{line.title}</b> {line.text}</li>"
        for line in found
    )
    return (
        "<div class='nm-head'><h3>The same, computed by hand</h3><p>Point at a line, or walk the lines by Tab: its "
        f"place in the pictures is ringed.</p></div><ol class='nm-walk'>{items}</ol>"
    )


def lines(detail: NeuronDetail, direction: int, titles: Mapping[str, str]) -> list[Line]:
    """The steps for the two experts that want the most of this neuron."""
    pair = [int(task) for task in np.argsort(-detail.tau_norm, kind="stable")[:2] if detail.tau_norm[task] > 0]
    if not pair or detail.base_norm <= 0:
        return []
    names = [html.escape(titles.get(task, task)) for task in detail.tasks]
    r = direction if 0 <= direction < len(detail.singular) else 0
    steps = [_arrows(detail, pair, names), _parallel(detail, pair, names), _rest(detail, pair, names)]
    if len(detail.singular):
        steps.append(_gram(detail, pair, names))
        steps += {"published": _published, "balanced": _balanced}.get(detail.vote, _none)(detail, pair, names, r)
    steps.append(_merged(detail, names, r))
    return steps


# ------------------------------------------------------------------------------------------------ lines
def _tips(pair: Sequence[int]) -> Light:
    return PLANE, "task vectors", list(pair)


def _arrows(detail: NeuronDetail, pair: Sequence[int], names: Sequence[str]) -> Line:
    norm = detail.base_norm
    wants = " and ".join(
        f"{names[t]} by |τ| = {detail.tau_norm[t]:.4f} ({100 * detail.tau_norm[t] / norm:.1f} %)" for t in pair
    )
    return Line(
        "Arrows.", f"The neuron's weights have the length |w₀| = {norm:.3f}. {wants} want to move them.", (_tips(pair),)
    )


def _parallel(detail: NeuronDetail, pair: Sequence[int], names: Sequence[str]) -> Line:
    shares = ", ".join(f"{names[t]}: c = {signed(float(detail.c[t]), 4)}" for t in pair)
    return Line("Along w₀.", f"c = τ·w₀ / w₀·w₀ is how far the arrow goes along w₀. {shares}.", (_tips(pair),))


def _rest(detail: NeuronDetail, pair: Sequence[int], names: Sequence[str]) -> Line:
    squares = _gram_of(detail).diagonal()
    parts = "; ".join(
        f"{names[t]}: √({detail.tau_norm[t]:.4f}² − ({signed(float(detail.c[t]), 4)} · {detail.base_norm:.3f})²) = "
        f"{np.sqrt(max(squares[t], 0.0)):.4f}"
        for t in pair
    )
    return Line(
        "Across.", f"What is left, τ − c w₀, stands at a right angle to w₀. Its length: {parts}.", (_tips(pair),)
    )


def _gram(detail: NeuronDetail, pair: Sequence[int], names: Sequence[str]) -> Line:
    gram = _gram_of(detail)
    squares = ", ".join(f"G({names[t]}) = {gram[t, t]:.5f}" for t in pair)
    if len(pair) < 2:
        return Line("Gram matrix.", f"Products of the orthogonal parts with one another: {squares}.", (_tips(pair),))
    a, b = pair
    product = float(gram[a, b])
    cosine = product / max(float(np.sqrt(gram[a, a] * gram[b, b])), 1e-300)
    kind = "they agree" if cosine > 0.1 else "they oppose each other" if cosine < -0.1 else "nearly independent"
    return Line(
        "Gram matrix.",
        f"Products of the orthogonal parts with one another, for all {len(names)} experts: {squares}, and between the "
        f"two {signed(product, 5)}, a cosine of {signed(cosine)}: {kind}.",
        (_tips(pair),),
    )


def _published(detail: NeuronDetail, pair: Sequence[int], names: Sequence[str], r: int) -> list[Line]:
    votes = detail.left[:, r]
    total, elected = float(votes.sum()), float(detail.elected[r])
    kept = int((np.sign(votes) == np.sign(elected)).sum()) if elected else 0
    said = ", ".join(f"{names[t]} {signed(float(votes[t]))}" for t in pair)
    lights: tuple[Light, ...] = ((VOTES, "score", [n for t in pair for n in (t, r)]), (VOTES, "elected", [0, r]))
    text = (
        f"The Gram matrix gives {len(detail.singular)} directions v. In v{r + 1} the wishes U are {said}, …; all "
        f"{len(names)} add up to {signed(total)}, so the sign is {'+' if elected > 0 else '−'}. The {kept} of that "
        f"sign are averaged: e = {signed(elected)}."
        if elected
        else f"In v{r + 1} the wishes U are {said}, …; they are tied, so both sides cancel: e = 0."
    )
    first = pair[0]
    pairs = list(zip(detail.left[first].tolist(), detail.elected.tolist(), strict=True))
    terms = " + ".join(f"({signed(wish)})({signed(mean)})" for wish, mean in pairs[:MOST_TERMS])
    if len(pairs) > MOST_TERMS:
        terms += " + …"
    weight = Line(
        "Weight.",
        f"α is the sum of U e over all directions. {names[first]}: {terms} = {signed(float(detail.alpha[first]))}. "
        f"{_meaning(float(detail.alpha[first]))}",
        ((VOTES, "alpha", [first]),),
    )
    return [Line("Votes.", text, lights), weight]


def _balanced(detail: NeuronDetail, pair: Sequence[int], names: Sequence[str], r: int) -> list[Line]:
    gram, first = _gram_of(detail), pair[0]
    reached = float(gram[first] @ detail.alpha)
    said = ", ".join(f"{names[t]} {signed(float(detail.alpha[t]))}" for t in pair)
    return [
        Line(
            "Balanced vote.",
            f"No signs: the weights α are chosen together, so that every expert finds its own part whole in the sum, "
            f"G α = diag G, with a little caution (ridge {detail.ridge:g}). That gives {said}, ….",
            ((VOTES, "alpha", list(pair)),),
        ),
        Line(
            "Check.",
            f"What {names[first]} finds of its own part: (G α) / G = {reached:.5f} / {gram[first, first]:.5f} = "
            f"{reached / max(float(gram[first, first]), 1e-300):.2f}. 1 is all of it.",
            (_tips(pair[:1]), (PLANE, "merge", [0])),
        ),
    ]


def _none(detail: NeuronDetail, pair: Sequence[int], names: Sequence[str], r: int) -> list[Line]:
    return [Line("No vote.", "This method does not vote over neurons: it changes the weights in its own way.", ())]


def _merged(detail: NeuronDetail, names: Sequence[str], r: int) -> Line:
    step, rise = merged_change(detail)
    norm = detail.base_norm
    lights: tuple[Light, ...] = ((PLANE, "merge", [0]),)
    across = 100 * float(rise[r]) / norm if len(rise) else 0.0
    if not detail.vote:
        text = f"It moves the neuron {signed(100 * step)} % of |w₀| along w₀, and {signed(across)} % along v{r + 1}."
        return Line("Merged.", text, lights)
    along = f"{detail.lambda_parallel:.4g} · {signed(detail.c_merged, 4)} = {signed(100 * step)} % of |w₀|"
    text = f"Along w₀: λ₁ · c̄ = {along}."
    if len(rise):
        whole = 100 * float(detail.alpha @ detail.scores[:, r]) / norm
        product = f"{detail.lambda_orthogonal:.4g} · {signed(whole)} % = {signed(across)} %"
        text += f" Across, along v{r + 1}: λ₂ · Σ α τ = {product}."
    return Line("Merged.", text, lights)


def _meaning(alpha: float) -> str:
    """What a weight does to a part."""
    if alpha < -0.05:
        return "Below 0: its wish is turned around."
    if alpha < 0.1:
        return "Near 0: its wish is dropped."
    if alpha < 0.9:
        return "Below 1: its wish is damped."
    return "About 1: its wish is added whole." if alpha < 1.1 else "Above 1: its wish is made larger."


def _gram_of(detail: NeuronDetail) -> np.ndarray:
    """The Gram matrix (T, T) of the orthogonal parts, from their coordinates along the directions."""
    return detail.scores @ detail.scores.T
