"""The guided tour: eight steps from one neuron to the whole model, each of which sets the controls itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from neuromerge.evaluation.families import Family
from neuromerge.interface.components.text import LATEX
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.settings.choices import make_setting
from neuromerge.settings.setting import Setting


@dataclass(frozen=True)
class Stop:
    """One step: its text, something to try, the tab it opens and the merge it shows there."""

    title: str
    text: str
    attempt: str
    tab: str
    method: str = "neuromerging"
    hyperparameters: tuple[tuple[str, float | str], ...] = ()

    def setting(self, family: Family, tasks: list[str]) -> Setting:
        """The step's merge of the chosen experts."""
        return make_setting(family, tasks, self.method, dict(self.hyperparameters))


STOPS: tuple[Stop, ...] = (
    Stop(
        "Experts",
        r"""
Start from one trained network, the **base**, with weights $\theta_0$. Train a copy of it on digits, another on
flags, and so on: each copy becomes an **expert** $\theta_t$. What an expert learned is the difference

$$\tau_t = \theta_t - \theta_0,$$

its **task vector**. Merging means: add something made of all the task vectors to the base, and get *one* network
that does every task, with no further training. The simplest way adds them all, scaled by one number $\lambda$. That
is *task arithmetic*, and it is what you see now: better than the base, far from the experts. The tasks
**interfere**.
""",
        "Move λ up. First every task gains, then all of them collapse: the sum disturbs more than it adds.",
        "merge",
        "task_arithmetic",
    ),
    Stop(
        "One neuron",
        r"""
Where does the interference happen? Look at the smallest part: one **neuron**. It takes a list of inputs $x$,
multiplies them with its weights $w_0$ and adds up: $w_0 \cdot x$. It answers strongly to inputs that look like
$w_0$. So draw $w_0$ as an axis. Every expert wants to move this neuron by its own arrow $\tau_t$, and each arrow
has a part *along* the axis,

$$c_t\, w_0 \quad\text{with}\quad c_t = \frac{\tau_t \cdot w_0}{w_0 \cdot w_0}.$$

This **parallel** part does not change what the neuron looks for, only how loudly it answers: its *sensitivity*. In the
right picture each point is a real input, and how much its answer changes: the parallel part puts all on one line.
""",
        "Move lambda_1 (parallel). The points stay on a line through the origin; only its slope changes.",
        "neuron",
        hyperparameters=(("trim_ratio", 0.0), ("lambda_parallel", 1.0), ("lambda_orthogonal", 0.0)),
    ),
    Stop(
        "Across",
        r"""
The rest of an arrow stands at a right angle to the axis:

$$\tau_t - c_t\, w_0 .$$

This **orthogonal** part makes the neuron answer to something it did not look for before: it *adapts*. In the right
picture, points now leave the line, because inputs that used to look alike to this neuron no longer do.
In fine-tuned networks nearly all of the change is orthogonal.
""",
        "Move lambda_2 (orthogonal) from 0 to 3 and watch the points spread; then look along another direction.",
        "neuron",
        hyperparameters=(("trim_ratio", 0.0), ("lambda_parallel", 0.0), ("lambda_orthogonal", 1.0)),
    ),
    Stop(
        "The vote",
        r"""
Eight arrows, one neuron: they have to agree. Along each direction the experts **vote**. The sum of their wishes
decides the sign; those who wanted the other sign are left out, and the rest are averaged:

$$\psi(a_1,\dots,a_T) = \text{mean of those } a_t \text{ whose sign is that of } \textstyle\sum_t a_t .$$

Along the axis there is one vote, on the $c_t$. Across it there is one for each direction in which the arrows differ
(found by a singular value decomposition). What expert $t$ keeps of its arrow is $\alpha_t$: about 1 if nobody else
wants that direction, $1/T$ if all want the same, less or even below 0 if they pull against each other.
""",
        "Untick an expert in the sidebar and watch the vote and the merged arrow change.",
        "neuron",
        hyperparameters=(("trim_ratio", 0.0), ("lambda_parallel", 0.0), ("lambda_orthogonal", 1.0)),
    ),
    Stop(
        "Trim",
        r"""
Most numbers in a task vector are tiny, and tiny wishes still vote. So before the vote, each task vector is
**trimmed**: of all its entries in the whole network, the smallest share $r$ is set to zero. With $r = 0.8$ the
largest 20 % stay. That removes some of the change itself; $\sigma$ measures how much. Without any data to tune on,
the method makes up for it by

$$\lambda_1 = 0, \qquad \lambda_2 = \frac{1}{1-\sigma}.$$

This is the **paper's auto setting**, one of the presets in the sidebar.
""",
        "Move the trim ratio. Auto keeps λ₂ in step: the more is trimmed, the more the rest is scaled up.",
        "neuron",
    ),
    Stop(
        "Every layer",
        r"""
The same happens in every neuron of every layer. Here each cell sums up one weight matrix: a row is a layer, a
column is a matrix in it (q, k, v, out: the attention; fc1, fc2: the two layers after it). The left panel shows the
parallel part, the right one the orthogonal part, with one colour scale. **Retention** says how much of its own
change a task finds again in the merge: 1 is all of it, 0 nothing, below 0 the opposite.
""",
        "Click a cell to open the layer: which neurons are contested, and which tasks pull together? "
        "Then click a neuron in the list.",
        "interference",
    ),
    Stop(
        "The whole model",
        r"""
What does all this buy? The bars compare, task by task, the base, each expert on its own ground, this merge, and
another method. The thin lines are 95 % intervals: with few images, small differences mean nothing. Tasks that you
do not merge are shown apart. They tell what the merge does to abilities that it was never asked to keep.
""",
        "Untick two experts: do the remaining tasks gain, and do the two fall back to the base?",
        "merge",
    ),
    Stop(
        "Your turn",
        r"""
With validation images you can do better than auto: the map shows the average accuracy over two coefficients at a
time, and the search looks for the best of all three. When you have settled on a setting, run the *final test* once,
on images that nothing here has touched, and take the merged network with you from the Export tab.
""",
        "Press Map, click the brightest point, and compare with auto. In Zero-shot, give the merge your own picture.",
        "tune",
    ),
)


class Tour:
    """The walkthrough above the tabs, folded away until it is wanted."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def build(self) -> None:
        """Make the steps."""
        self.steps: list[gr.Step] = []
        self.moves: list[tuple[gr.Button, int]] = []
        title = f"Guided tour: from one neuron to the whole model, in {len(STOPS)} steps"
        self.box = gr.Accordion(title, open=False, elem_id="tour", elem_classes="nm-tour")
        with self.box:
            self.walk = gr.Walkthrough(selected=0, elem_id="tour-steps")
            with self.walk:
                for place, stop in enumerate(STOPS):
                    with gr.Step(stop.title, id=place, elem_id=f"tour-{place}") as step:
                        gr.Markdown(stop.text, latex_delimiters=LATEX, elem_classes="nm-tour-text")
                        gr.Markdown(f"**Try it.** {stop.attempt}", elem_classes="nm-try")
                        with gr.Row(elem_classes="nm-actions"):
                            if place:
                                back = gr.Button("← Back", size="sm", min_width=0, scale=0)
                                self.moves.append((back, place - 1))
                            if place + 1 < len(STOPS):
                                label = f"Next: {STOPS[place + 1].title} →"
                                following = gr.Button(label, size="sm", variant="primary", min_width=0, scale=0)
                                self.moves.append((following, place + 1))
                    self.steps.append(step)

    def wire(self, events: Events) -> None:
        """Opening the tour, a step or a button sets the page for that step."""
        page, controls = self.page, self.page.controls
        triggers: list[tuple[Any, int]] = [
            (self.box.expand, 0),
            *((button.click, place) for button, place in self.moves),
            *((step.select, place) for place, step in enumerate(self.steps)),
        ]
        outputs = [self.walk, page.signals.tab_to_open, page.signals.tab, *page.settable]
        chosen = [controls.family, controls.tasks]
        for trigger, place in triggers:
            events.listen(trigger, partial(self.show, place), outputs, extra=chosen, lasting=True)

    def show(self, place: int, moment: Moment) -> Changes:
        """Set the page for a step, whatever else it shows."""
        controls, stop = self.page.controls, STOPS[place]
        family = controls.family_called(moment.value(controls.family))
        ticked = [task for task in moment.value(controls.tasks) or () if task in family.experts]
        setting = stop.setting(family, ticked or list(family.default_tasks or family.experts))
        return {
            self.walk: gr.Walkthrough(selected=place),
            self.page.signals.tab: stop.tab,
            **self.page.open_tab(stop.tab),
            **self.page.set_controls(setting),
        }
