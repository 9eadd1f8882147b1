"""A short quiz on the merge on screen: its own numbers, with every answer explained."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuromerge.exploration.results import AccuracyBoard, Heatmap, MergeSummary
from neuromerge.figures.accuracy import mean_accuracy
from neuromerge.figures.interference.columns import columns_of_neurons
from neuromerge.interface.lesson.drawings import layers
from neuromerge.merging import registry
from neuromerge.settings.setting import Setting


@dataclass(frozen=True)
class Question:
    """A question with its answers, the place of the right one, and why it is right."""

    text: str
    answers: tuple[str, ...]
    right: int
    why: str


def questions(
    setting: Setting,
    summary: MergeSummary,
    board: AccuracyBoard,
    heatmap: Heatmap,
    titles: Mapping[str, str],
) -> list[Question]:
    """The questions that this merge has an answer to. `heatmap` is of the cancellation."""
    makers = (
        _kept(summary, titles),
        _parts(setting),
        _auto(setting, summary),
        _independent(setting, heatmap),
        _layer(heatmap),
        _base(setting, board),
    )
    return [question for question in makers if question is not None]


def quiz(asked: Sequence[Question]) -> str:
    """HTML of the quiz; ``static/tour.js`` says whether an answer is right."""
    return f"<ol class='nm-quiz'>{''.join(_form(place, question) for place, question in enumerate(asked))}</ol>"


def _form(place: int, question: Question) -> str:
    answers = "".join(
        f"<label><input type='radio' name='nm-quiz-{place}' value='{k}'> {html.escape(answer)}</label>"
        for k, answer in enumerate(question.answers)
    )
    legend = f"<legend>{place + 1}. {html.escape(question.text)}</legend>"
    return (
        f"<li><fieldset data-right='{question.right}'>{legend}{answers}"
        f"<p role='status' data-why='{html.escape(question.why, quote=True)}'></p></fieldset></li>"
    )


def _ordered(numbers: Sequence[float], right: float, write: str) -> tuple[tuple[str, ...], int]:
    """Answers in rising order, each once as it is written, and the place of the right one."""
    texts = list(dict.fromkeys(write.format(number) for number in sorted({*numbers, right})))
    return tuple(texts), texts.index(write.format(right))


def _kept(summary: MergeSummary, titles: Mapping[str, str]) -> Question | None:
    kept = summary.retention
    if len(kept) < 2:
        return None
    most, least = max(kept, key=lambda task: kept[task]), min(kept, key=lambda task: kept[task])
    names = list(kept)[:6] if most in list(kept)[:6] else [*list(kept)[:5], most]
    return Question(
        "Which task keeps most of what it learned in this merge?",
        tuple(titles.get(task, task) for task in names),
        names.index(most),
        f"{titles.get(most, most)}: the merge goes {100 * kept[most]:.0f} % of the way along its task vector. "
        f"{titles.get(least, least)} keeps least, {100 * kept[least]:.0f} %. The table below the bars lists all.",
    )


def _parts(setting: Setting) -> Question | None:
    values = dict(setting.hyperparameters)
    parallel = values.get("lambda_parallel")
    if parallel is None:
        return None
    off = parallel in (0.0, "auto")
    return Question(
        f"λ₁ (parallel) is {'0' if off else parallel} here. What does the merge do to the sensitivity of neurons?",
        ("it makes some louder and some quieter", "nothing: neurons only adapt to new inputs"),
        int(off),
        "The parallel part lies along a neuron's own weights and scales its answers: that is sensitivity. λ₁ "
        "multiplies it; λ₂ multiplies the orthogonal part, which adapts to new inputs.",
    )


def _auto(setting: Setting, summary: MergeSummary) -> Question | None:
    if "vote" not in dict(setting.hyperparameters) or setting.value("vote") != "published" or summary.sigma >= 1:
        return None
    sigma = summary.sigma
    right = 1 / (1 - sigma)
    answers, place = _ordered((sigma, 1 + sigma, 2 * right), right, "{:.2f}")
    return Question(
        f"The trim removed {100 * sigma:.0f} % of the task vectors' size (σ = {sigma:.3f}). What is Auto λ₂?",
        answers,
        place,
        f"1 / (1 − σ) = 1 / {1 - sigma:.3f} = {right:.2f}: what is left is scaled up to the size that there was.",
    )


def _independent(setting: Setting, heatmap: Heatmap) -> Question | None:
    tasks = len(setting.tasks)
    if tasks < 2:
        return None
    right, here = 1 - 1 / math.sqrt(tasks), float(np.nanmean(heatmap.orthogonal[:, columns_of_neurons(heatmap)]))
    answers, place = _ordered((0.0, 1.0, 1 / tasks), right, "{:.2f}")
    side = "above" if here > right else "below"
    more = "they work against each other" if here > right else "they have a little in common"
    return Question(
        f"{tasks} tasks are merged. Which cancellation would say that they are independent?",
        answers,
        place,
        f"1 − 1/√{tasks} = {right:.2f}. The orthogonal parts of this merge have {here:.2f} on average, {side} that: "
        f"{more}.",
    )


def _layer(heatmap: Heatmap) -> Question | None:
    ranked = layers(heatmap)
    if len(ranked) < 3:
        return None
    shown = sorted((ranked[0][0], ranked[len(ranked) // 2][0], ranked[-1][0]), key=heatmap.rows.index)
    return Question(
        "Which of these layers is most contested (highest mean cancellation across)?",
        tuple(shown),
        shown.index(ranked[0][0]),
        f"{ranked[0][0]} with {ranked[0][1]:.2f}; the least contested is {ranked[-1][0]} with {ranked[-1][1]:.2f}.",
    )


def _base(setting: Setting, board: AccuracyBoard) -> Question | None:
    merged = [task for task in board.tasks if task in board.merged and board.base[task].n]
    if not merged or not registry.get_method(setting.method).coefficients:
        return None
    base, merge = (100 * mean_accuracy([scores[task] for task in merged])[0] for scores in (board.base, board.merge))
    return Question(
        "What happens to this merge when its coefficient is made much too large?",
        ("it comes close to the experts", "it stays as it is", "it falls below the base"),
        2,
        f"Now it scores {merge:.1f} %, the base {base:.1f} %. The disturbance grows with the coefficient until it "
        "drowns every task. Try it with the slider.",
    )
