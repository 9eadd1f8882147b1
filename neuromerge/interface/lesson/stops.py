"""The steps of the tour: what each says, what it shows, and which merge it shows it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neuromerge.evaluation.families import Family
from neuromerge.interface.state import CellName
from neuromerge.settings.choices import make_setting
from neuromerge.settings.setting import Setting

LAMBDA_1 = "neuromerging-lambda-parallel"
LAMBDA_2 = "neuromerging-lambda-orthogonal"
TRIM = "neuromerging-trim-ratio"


ONE_NEURON = {"cell": CellName("block 5", "out"), "index": 65}
"""The neuron of every step that looks at one: its parallel part is large enough to be seen."""


@dataclass(frozen=True)
class Stop:
    """One step.

    Attributes:
        title, text: Markdown with formulas between dollars.
        attempt: something to try, and what is then seen.
        tab: key of the tab that it opens.
        figure: id of what the text talks about; it is brought into view.
        control: id of what is to be moved; it is framed.
        method, hyperparameters: the merge that it shows, of the experts that are ticked.
        shows: fields of the tab's state that it sets.
        drawing: what is drawn in the panel itself: a name in `drawings.DRAWINGS`, "" for nothing.
    """

    title: str
    text: str
    attempt: str
    tab: str
    figure: str
    control: str
    method: str = "neuromerging"
    hyperparameters: Mapping[str, float | str] = field(default_factory=dict)
    shows: Mapping[str, Any] = field(default_factory=dict)
    drawing: str = ""

    def setting(self, family: Family, tasks: list[str]) -> Setting:
        """The step's merge of the chosen experts."""
        return make_setting(family, tasks, self.method, dict(self.hyperparameters))


STOPS: tuple[Stop, ...] = (
    Stop(
        "Experts",
        r"""
Start from one trained network, the **base**, with weights $\theta_0$. Train a copy of it on digits, another on flags:
each copy becomes an **expert** $\theta_t$. What expert $t$ learned is the difference

$$\tau_t = \theta_t - \theta_0,$$

its **task vector**: one number for every weight of the network. **Merging** adds something made of all task vectors to
the base, and gets *one* network for every task, without training. The simplest way adds them all, times one number:
*task arithmetic*. That is what you see: better than the base, far from the experts. The tasks **interfere**. (Blue and
orange are the same here: the page compares every merge with task arithmetic.)
""",
        "Move the scale from 0 to 1. First every blue bar grows; then all fall: the sum disturbs more than it adds.",
        "merge",
        "accuracy-bars",
        "task-arithmetic-scale",
        "task_arithmetic",
    ),
    Stop(
        "One neuron",
        r"""
A network is made of **neurons**. Neuron $k$ multiplies its inputs $x$ with its own weights $w_0$ (row $k$ of a matrix)
and adds up: its **answer** is $w_0 \cdot x$. Row $k$ of the task vector is that neuron's own task vector
$\tau_{t,k}$: an **arrow** that says where expert $t$ wants to move these weights (the first picture of this tab draws
them, one a task). One part of the arrow lies along
$w_0$:

$$c_t\, w_0, \qquad c_t = \frac{\tau_{t,k} \cdot w_0}{w_0 \cdot w_0}.$$

This **parallel** part multiplies every answer by the same number. The neuron looks for the same thing, only louder or
quieter: it changes the neuron's **sensitivity**.
""",
        "Move λ₁ (parallel). In the picture of the answers all points stay on a line through the origin; its slope "
        "changes. It changes little: best seen in the small picture, where the change alone is enlarged.",
        "neuron",
        "neuron-answers",
        LAMBDA_1,
        hyperparameters={"trim_ratio": 0.0, "lambda_parallel": 1.0, "lambda_orthogonal": 0.0},
        shows=ONE_NEURON,
    ),
    Stop(
        "Across",
        r"""
What is left of the arrow, $\tau_{t,k} - c_t\, w_0$, stands at a right angle to $w_0$.

This **orthogonal** part makes the neuron answer to something that it did not look for before: it **adapts to new
inputs**. Two inputs that looked alike to the neuron can now get different answers, so the points leave the line.
In fine-tuned networks nearly all of the change is orthogonal.
""",
        "Move λ₂ (orthogonal) from 0 to 3. The points spread away from the line.",
        "neuron",
        "neuron-answers",
        LAMBDA_2,
        hyperparameters={"trim_ratio": 0.0, "lambda_parallel": 0.0, "lambda_orthogonal": 1.0},
        shows=ONE_NEURON,
    ),
    Stop(
        "Interference",
        r"""
What happens when two arrows are added? It depends on the angle. **Cancellation** compares the length of the sum with
the lengths that went in: $1 - |\tau_1 + \tau_2| \,/\, (|\tau_1| + |\tau_2|)$. It is 0 where all agree and 1 where all
is lost. **Independent** tasks stand at right angles: $T$ of them give $1 - 1/\sqrt{T}$, **0.29** for two, **0.65** for
eight. More than that means that tasks work against each other. Each cell of the map sums up one matrix: a row is a
layer, a column a matrix in it (q, k, v, out: the attention; fc1, fc2: the two layers after it; patch: the first look
at the picture; proj.: the last step).
""",
        "Point at the brightest cell of the orthogonal panel: is it above the value for independent tasks?",
        "interference",
        "interference",
        "measure",
        hyperparameters={"trim_ratio": 0.0, "lambda_parallel": 0.0, "lambda_orthogonal": 1.0},
        shows={"measure": "cancellation"},
        drawing="angles",
    ),
    Stop(
        "The vote",
        r"""
How many arrows become one: the experts **vote**. In each direction the sum of their wishes decides the sign; wishes of
the other sign are left out (in brackets), and the rest are averaged. Along $w_0$ there is one vote, on the $c_t$.
Across it there is one for each direction $v_r$ in which the arrows differ; $U_{t,r}$ is the wish of expert $t$, and
$e_r$ is what is elected. Together the votes give each expert a weight,

$$\alpha_t = \sum_r U_{t,r}\, e_r,$$

and the merge adds $\alpha_t$ times each orthogonal part. **1**: added whole; $1/T$: all $T$ wanted the same, and each
gives its share; below 0: turned around. The lines under the pictures compute it for this neuron, number by number; the
arrows stand above them.
""",
        "Untick an expert and follow the lines: votes, alpha and the thick arrow change.",
        "neuron",
        "neuron-walk",
        "tasks",
        hyperparameters={"trim_ratio": 0.0, "lambda_parallel": 0.0, "lambda_orthogonal": 1.0},
        shows=ONE_NEURON,
    ),
    Stop(
        "Trim",
        r"""
Most numbers in a task vector are tiny. A tiny number says little about its own task, but it disturbs the others. So
before the vote each task vector is **trimmed**: of all its numbers in the whole network the smallest share $r$ is set
to 0. With $r = 0.8$ the largest 20 % stay. **Why trim?** The more tasks, the more such noise adds up: with PictoCLIP's
eight experts, the merge here scores 45.5 % without a trim and 47.4 % with $r = 0.8$ (all validation images). With two
or three experts there is little noise, and the trim only costs what it removes: three experts score 55.9 % without it
and 49.1 % with it. (This step uses the *balanced* vote: another way to weigh the orthogonal parts, by which every task
finds its own change whole.)
""",
        "Move the trim ratio to 0 and wait for “Validation” at the top: the score falls. Then tick three experts "
        "only, and try both again.",
        "merge",
        "readout",
        TRIM,
        hyperparameters={"trim_ratio": 0.8, "vote": "balanced", "lambda_parallel": 0.0, "lambda_orthogonal": "auto"},
    ),
    Stop(
        "Auto λ₂",
        r"""
The trim also removes some of what was learned. $\sigma$ is the share of the task vectors' size that it removed. So what
is left is scaled up: without any data to tune on, the method takes

$$\lambda_1 = 0, \qquad \lambda_2 = \frac{1}{1-\sigma}.$$

Auto $\lambda_2$ **makes good the size that the trim took away**. This is the *paper's auto setting*, with the paper's
vote again: compare its score with other merges of that vote, not with the step before.
""",
        "Move the trim ratio. Auto keeps λ₂ (orthogonal) in step: the more is trimmed, the more the rest is scaled up.",
        "merge",
        "readout",
        TRIM,
    ),
    Stop(
        "Too much",
        r"""
If scaling up helps, why not more? Each task's change also moves the weights that other tasks rely on. Times
$\lambda_2$, that disturbance grows, too, until it drowns everything: the network then names one class for every
picture, and the merge falls **below the base** that it started from. Here $\lambda_2$ is 5, without a trim.
""",
        "Move λ₂ (orthogonal) down from 5. Find where the merge passes the base (grey), and where it is best.",
        "merge",
        "accuracy-bars",
        LAMBDA_2,
        hyperparameters={"trim_ratio": 0.0, "lambda_parallel": 0.0, "lambda_orthogonal": 5.0},
    ),
    Stop(
        "Every layer",
        r"""
The same happens in every neuron of every layer. One panel of the map shows the parallel part, the other the orthogonal
part. The layer with the highest cancellation is the **most contested**: there the tasks want the least compatible
things, even where it is below the value of independent tasks, which only says that they share a little everywhere.
""",
        "Click a cell of the most contested layer. Under “Strength here” act on the whole layer, and move it to 0.5: "
        "the tasks disturb each other less there. Does the score at the top gain or lose?",
        "interference",
        "interference",
        "strength",
        hyperparameters={"trim_ratio": 0.0, "lambda_parallel": 0.0, "lambda_orthogonal": 3.0},
        shows={"measure": "cancellation"},
        drawing="contested",
    ),
    Stop(
        "The whole model",
        r"""
What does all this buy? The bars compare, task by task, the base, each expert on its own task, this merge, and another
method. The thin lines are 95 % intervals: with few images, small differences mean nothing. Tasks that you do not merge
stand apart. They tell what the merge does to abilities that it was never asked to keep.
""",
        "Untick two experts. Do the remaining tasks gain, and do the two fall back towards the base?",
        "merge",
        "accuracy-bars",
        "tasks",
    ),
    Stop(
        "Your turn",
        r"""
With validation images you can do better than Auto: the map shows the mean accuracy over two coefficients at a time, and
the search looks for the best of all. When you have settled on a setting, run the *final test* once, on images that
nothing here has touched, and take the merged network with you from the Export tab.
""",
        "Press Map and click the brightest point. In Zero-shot, give the merge a picture of your own.",
        "tune",
        "landscape",
        "map",
    ),
    Stop(
        "Quiz",
        "Questions about the merge on screen, with its real numbers. Every answer is explained.",
        "",
        "merge",
        "readout",
        "",
        drawing="quiz",
    ),
)
"""In order; a link may name a step by its place, counted from 1."""
