"""Functions of the app for scripts (gradio_client) and assistants (MCP): the page's engine without the page."""

from __future__ import annotations

import base64
import binascii
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.events import api

from neuromerge.deployment import Limits
from neuromerge.errors import LimitError, NeuroMergeError, SettingError, quoted
from neuromerge.evaluation.families import Family
from neuromerge.interface.blocks import owner_of
from neuromerge.interface.events import URGENCY, Lane
from neuromerge.interface.limits import check_class_names, check_template
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.interface.memory import give_back
from neuromerge.interface.moment import BoundWorkspace
from neuromerge.interface.pictures import read_picture
from neuromerge.merging import registry
from neuromerge.merging.measures import measures
from neuromerge.progress import Job
from neuromerge.settings.choices import DEFAULT_METHOD, make_setting
from neuromerge.settings.setting import Setting

LANE: Lane = "heavy"
"""Where calls wait, beside galleries and exports of the page."""


def add_api(loader: WorkspaceLoader, families: Mapping[str, Family], limits: Limits) -> None:
    """Register the public functions with the blocks under construction."""

    def setting_of(
        tasks: list[str] | None, method: str, parameters: dict[str, Any] | None, seed: int, family: str
    ) -> Setting:
        name = next(iter(families)) if family in (None, "") else family
        if not isinstance(name, str) or name not in families:
            raise SettingError(f"There is no model family {quoted(name)}. Known: {', '.join(families)}.")
        entry = families[name]
        return make_setting(entry, tasks or entry.default_tasks or None, method, parameters or {}, seed)

    def workspace_for(setting: Setting, request: gr.Request) -> BoundWorkspace:
        """The workspace asked for who calls; what the setting needs of the Hub begins to come, and a call says so."""
        explorer = loader.workspace()
        explorer.want(setting, "scripts")
        return BoundWorkspace(explorer, setting, Job(urgency=URGENCY[LANE], owner=owner_of(request)))

    def merge_summary(
        request: gr.Request,
        tasks: list[str] | None = None,
        method: str = DEFAULT_METHOD,
        parameters: dict[str, Any] | None = None,
        seed: int = 0,
        family: str = "",
    ) -> dict[str, Any]:
        """Merge fine-tuned experts into one model and report the coefficients that were used.

        Args:
            tasks: names of the experts to merge, such as ["digits", "flags"]; none means all of them.
            method: one of METHODS.
            parameters: the method's own, such as {"trim_ratio": 0.8, "lambda_orthogonal": "auto"}.
            seed: for methods that use chance.
            family: which base model and experts; empty for the bundled family.

        Returns:
            the coefficients in use by their names, sigma, sigma and kept share per task, and warnings.
        """
        setting = setting_of(tasks, method, parameters, seed, family)
        summary = workspace_for(setting, request).summary()
        return {
            "family": setting.family,
            "tasks": list(setting.tasks),
            "method": setting.method,
            "parameters": dict(setting.hyperparameters),
            "seed": setting.seed,
            **{name: _finite(value) for name, value in summary.coefficients.items()},
            "sigma": _finite(summary.sigma),
            "sigma_per_task": {task: _finite(value) for task, value in summary.sigma_per_task.items()},
            "kept_share": {task: _finite(value) for task, value in summary.kept_share.items()},
            "ill_conditioned_neurons": summary.ill_conditioned,
            "neurons": summary.neurons,
            "warnings": list(summary.warnings),
        }

    def accuracy(
        request: gr.Request,
        tasks: list[str] | None = None,
        method: str = DEFAULT_METHOD,
        parameters: dict[str, Any] | None = None,
        split: str = "quick",
        seed: int = 0,
        family: str = "",
    ) -> dict[str, Any]:
        """Accuracy of a merge on every task, beside the base model and the experts.

        Args:
            tasks: names of the experts to merge; none means all of them.
            method: one of METHODS.
            parameters: the method's own, such as {"trim_ratio": 0.8}.
            split: quick (a small fixed part of validation), validation, or test.
            seed: for methods that use chance.
            family: which base model and experts; empty for the bundled family.

        Returns:
            per task: whether it was merged, and accuracy in [0, 1] with its 95 % interval and number of images.
        """
        setting = setting_of(tasks, method, parameters, seed, family)
        board = workspace_for(setting, request).board(split)
        return {
            "split": board.split,
            "tasks": {
                task: {
                    "merged": task in board.merged,
                    **{
                        model: {"accuracy": score.value, "low": score.low, "high": score.high, "n": score.n}
                        for model, scores in (("base", board.base), ("expert", board.expert), ("merge", board.merge))
                        if (score := scores.get(task)) is not None and score.n
                    },
                }
                for task in board.tasks
            },
        }

    def interference(
        request: gr.Request,
        measure: str = "cancellation",
        tasks: list[str] | None = None,
        method: str = DEFAULT_METHOD,
        parameters: dict[str, Any] | None = None,
        seed: int = 0,
        family: str = "",
    ) -> list[dict[str, Any]]:
        """Where in the network the tasks interfere: one measure for every matrix of every layer.

        Args:
            measure: one of MEASURES.
            tasks: names of the experts to merge; none means all of them.
            method: one of METHODS.
            parameters: the method's own.
            seed: for methods that use chance.
            family: which base model and experts; empty for the bundled family.

        Returns:
            rows of layer, matrix, and the value in the parallel and the orthogonal subspace (null: not applicable).
        """
        setting = setting_of(tasks, method, parameters, seed, family)
        heatmap = workspace_for(setting, request).heatmap(measure)
        return [
            {
                "layer": layer,
                "matrix": matrix,
                "parallel": _finite(heatmap.parallel[row, column]),
                "orthogonal": _finite(heatmap.orthogonal[row, column]),
            }
            for row, layer in enumerate(heatmap.rows)
            for column, matrix in enumerate(heatmap.columns)
            if not (math.isnan(heatmap.parallel[row, column]) and math.isnan(heatmap.orthogonal[row, column]))
        ]

    def between_tasks(
        request: gr.Request,
        layer: str = "",
        matrix: str = "",
        tasks: list[str] | None = None,
        method: str = DEFAULT_METHOD,
        parameters: dict[str, Any] | None = None,
        seed: int = 0,
        family: str = "",
    ) -> dict[str, Any]:
        """Which tasks pull against each other, where, and what each keeps of its own change in the merge.

        Args:
            layer: a layer such as "block 3"; empty for all of them.
            matrix: a matrix such as "fc1"; empty for all of them.
            tasks: names of the experts to merge; none means all of them.
            method: one of METHODS.
            parameters: the method's own.
            seed: for methods that use chance.
            family: which base model and experts; empty for the bundled family.

        Returns:
            pairs: for every two tasks their conflict (minus the cosine of their changes) in the parallel and the
            orthogonal subspace and in both, and the cell where most of it comes from; kept: for every task the share
            of its own change that the merge keeps, in the same three (null: not applicable).
        """
        setting = setting_of(tasks, method, parameters, seed, family)
        if not isinstance(layer, str) or not isinstance(matrix, str):
            raise SettingError("layer and matrix must be texts.")
        found = workspace_for(setting, request).between_tasks(layer, matrix)
        return {
            "pairs": [
                {
                    "tasks": [found.tasks[a], found.tasks[b]],
                    **{part: _finite(values[a, b]) for part, values in found.conflict.items()},
                    "most_in": {"layer": place.layer, "matrix": place.matrix, "subspace": place.subspace},
                }
                for (a, b), place in found.places.items()
            ],
            "kept": {
                task: {part: _finite(values[at]) for part, values in found.kept.items()}
                for at, task in enumerate(found.tasks)
            },
        }

    def drift(
        request: gr.Request,
        tasks: list[str] | None = None,
        method: str = DEFAULT_METHOD,
        parameters: dict[str, Any] | None = None,
        seed: int = 0,
        family: str = "",
    ) -> list[dict[str, Any]]:
        """Where a merged network leaves its experts: how far its features are from theirs after every block.

        Args:
            tasks: names of the experts to merge; none means all of them.
            method: one of METHODS.
            parameters: the method's own.
            seed: for methods that use chance.
            family: which base model and experts; empty for the bundled family.

        Returns:
            rows of block, task, drift (1 - cosine of the class tokens, mean over the task's quick pictures), the share
            of the difference that is common to all pictures (null: nothing differs), and the number of pictures.
        """
        setting = setting_of(tasks, method, parameters, seed, family)
        found = workspace_for(setting, request).drift()
        return [
            {
                "block": block,
                "task": task,
                "drift": _finite(found.drift[row, column]),
                "common": _finite(found.common[row, column]),
                "pictures": found.pictures[column],
            }
            for row, block in enumerate(found.blocks)
            for column, task in enumerate(found.tasks)
        ]

    def classify(
        request: gr.Request,
        image: str,
        class_names: list[str],
        prompt: str = "a picture of a {}",
        tasks: list[str] | None = None,
        method: str = DEFAULT_METHOD,
        parameters: dict[str, Any] | None = None,
        seed: int = 0,
        family: str = "",
    ) -> dict[str, Any]:
        """Name a picture with classes of your own: what the base, every expert and the merge say.

        Args:
            image: the picture (PNG, JPEG, WEBP, GIF or BMP) in base64, with or without a data: prefix.
            class_names: at least two names to choose from.
            prompt: a sentence with {} where the class name goes.
            tasks: names of the experts to merge; none means all of them.
            method: one of METHODS.
            parameters: the method's own.
            seed: for methods that use chance.
            family: which base model and experts; empty for the bundled family.

        Returns:
            for each model, the probabilities of its five best classes; and where the text tower does not read class
            names or prompt as they stand, sentences about it under "notes".
        """
        setting = setting_of(tasks, method, parameters, seed, family)
        if not isinstance(class_names, list) or not all(isinstance(name, str) for name in class_names):
            raise SettingError("class_names must be a list of texts.")
        names = check_class_names("\n".join(name.replace("\n", " ") for name in class_names), limits)
        picture = _decoded(image, limits)
        template, workspace = check_template(prompt, limits), workspace_for(setting, request)
        answers = workspace.classify(picture, names, template)
        notes = workspace.prompt_notes(names, template)
        said = {answer.model: dict(zip(answer.labels, answer.probabilities, strict=True)) for answer in answers}
        return {**said, **({"notes": list(notes)} if notes else {})}

    known = {"METHODS": registry.methods(), "MEASURES": [measure.key for measure in measures()]}
    for function in (merge_summary, accuracy, interference, between_tasks, drift, classify):
        for word, names in known.items():
            function.__doc__ = (function.__doc__ or "").replace(word, ", ".join(names))
        api(_told(function), api_name=function.__name__, concurrency_limit=limits.heavy_workers, concurrency_id=LANE)


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with errors of the user's making passed on in words."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except NeuroMergeError as error:
            said = str(error)
        finally:
            give_back()
        # Not where it is caught: Gradio keeps what is raised for a while, and with it the pictures of every frame.
        raise gr.Error(said, print_exception=False)

    return run


def _decoded(image: object, limits: Limits) -> Any:
    """A picture from base64. Raises SettingError or LimitError."""
    if not isinstance(image, str):
        raise SettingError("image must be a picture in base64.")
    if len(image) > limits.max_upload_bytes * 4 / 3 + 200:
        raise LimitError(f"The picture is too large: at most {limits.max_upload_bytes / 2**20:.0f} MB are possible.")
    try:
        data = base64.b64decode(image.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise SettingError("image is not valid base64.") from None
    return read_picture(data, limits)


def _finite(value: float) -> float | None:
    """A number for JSON, which knows neither NaN nor infinity."""
    number = float(value)
    return number if math.isfinite(number) else None
