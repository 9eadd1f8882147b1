"""Profiles: factors on a method's coefficients by part of the model, and weights of tasks.

A profile maps parts to factors. A part is a matrix (``"fc1"``: in every block), a layer as the heatmap's rows are
named (``"block 3"``, ``"stem"``, ``"head"``), a cell (``"block 3/fc1"``), or ``"rest"``: wherever no other part
reaches. ``"attention"`` and ``"mlp"`` stand for the matrices of these, alone or in a cell. A factor is a number, or a
list of numbers: a curve over depth, interpolated linearly from the first block to the last.
``{"lambda_parallel": 0, "lambda_orthogonal": 1.5}`` in the place of a factor treats coefficients apart. The factors
of all parts that match are multiplied; where none matches the factor is 1.

Stem and head lie outside the blocks: the curve of a matrix leaves what they hold of it alone (factor 1). The
curve of ``"rest"`` goes on instead: its first value holds before the blocks, its last one after them, as a list
does in mergekit.

Every linear method takes a profile: it shapes the coefficients, so a factor moved asks for no new pass over the
task vectors. A task's weight multiplies its task vector before everything else, the trim included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import SettingError, quoted

REST = "rest"
"""The part that stands for wherever no other part reaches."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v", "qkv", "out"),
    "mlp": ("fc1", "fc2", "gate", "router"),
}
"""Parts that stand for several matrices, of which a model need not have all."""
LARGEST = 100.0
"""Factors and weights lie between minus and plus this."""
MAX_FACTORS = 4096
MAX_CURVE = 256

Factors = Mapping[tuple[str, str], Mapping[str, float]]
"""By (layer, matrix) and name of the coefficient: the factor on it; 1 where nothing is said."""


@dataclass(frozen=True, slots=True, order=True)
class Factor:
    """A factor on a part of the model.

    Attributes:
        part: matrix, layer, cell or ``rest``.
        coefficient: on which coefficient; all of them when empty.
        curve: one number, or several: a curve over depth.
    """

    part: str
    coefficient: str
    curve: tuple[float, ...]


Profile = tuple[Factor, ...]
"""Factors in order of part and coefficient: equal profiles are equal values, and can be hashed."""
TaskWeights = tuple[float, ...]
"""One weight for each task, in the order of the tasks; empty where all are 1."""


def make_profile(given: Mapping[str, Any] | Profile | None) -> Profile:
    """The profile that a mapping describes; see the module.

    Raises SettingError for what is no factor. Whether the parts exist is known only with a model: see `factors`.
    """
    if given is None:
        return ()
    if isinstance(given, tuple) and all(isinstance(factor, Factor) for factor in given):
        return given
    if not isinstance(given, Mapping):
        raise SettingError(f"A profile maps parts of the model to factors, such as {{'fc1': 0.5}}; not {given!r:.60}.")
    found = []
    for part, value in given.items():
        if not isinstance(part, str) or not part.strip() or not part.isprintable() or len(part) > 200:
            raise SettingError(f"A part of a profile must be a name such as 'fc1' or 'block 3', not {part!r:.60}.")
        if isinstance(value, Mapping):
            if not value:
                raise SettingError(f"The profile names no factor for {quoted(part)}.")
            for coefficient, own in value.items():
                if not isinstance(coefficient, str) or not coefficient:
                    raise SettingError(f"The profile names a coefficient of {quoted(part)} by {coefficient!r:.60}.")
                found.append(Factor(part.strip(), coefficient, _curve(own, f"{quoted(part)}, {coefficient}")))
        else:
            found.append(Factor(part.strip(), "", _curve(value, repr(part))))
    if len(found) > MAX_FACTORS:
        raise SettingError(f"A profile has at most {MAX_FACTORS} factors, not {len(found)}.")
    seen: set[tuple[str, str]] = set()
    for factor in found:
        place = (factor.part, factor.coefficient)
        if place in seen:
            raise SettingError(f"The profile names {quoted(factor.part)} twice.")
        seen.add(place)
    return tuple(sorted(found))


def as_mapping(profile: Profile) -> dict[str, Any]:
    """The mapping that `make_profile` reads back to an equal profile; plain values for JSON and YAML."""
    found: dict[str, Any] = {}
    for factor in profile:
        value = factor.curve[0] if len(factor.curve) == 1 else list(factor.curve)
        if factor.coefficient:
            found.setdefault(factor.part, {})[factor.coefficient] = value
        else:
            found[factor.part] = value
    return found


def make_task_weights(given: Mapping[str, Any] | Sequence[Any] | None, tasks: Sequence[str]) -> TaskWeights:
    """The weights of `tasks`: from a mapping of task names to numbers, or one number a task in their order.

    Raises SettingError for a task that is not merged or what is no weight.
    """
    if isinstance(given, Mapping):
        for task in given:
            if task not in tasks:
                raise SettingError(f"{task!r:.60} has a weight, but is not merged. Merged: {', '.join(tasks)}.")
        given = [given.get(task, 1.0) for task in tasks]
    if not given:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(tasks):
        raise SettingError(f"Task weights map tasks to numbers, such as {{'digits': 1.2}}; not {given!r:.60}.")
    weights = tuple(_number(value, f"The weight of {task}") for task, value in zip(tasks, given, strict=True))
    return weights if any(weight != 1.0 for weight in weights) else ()


def factors(profile: Profile, parameters: Sequence[Parameter], coefficients: Iterable[str]) -> Factors:
    """The factors of a profile on a model of `parameters`, for the `coefficients` of a method.

    Raises SettingError, listing what there is, for a part or a coefficient that does not exist, and for a curve
    that reaches no block.
    """
    if not profile:
        return {}
    names = tuple(coefficients)
    cells = dict.fromkeys((parameter.layer, parameter.matrix) for parameter in parameters)
    depths = _depths(parameters)
    _check(profile, cells, depths, names)
    shaped: dict[tuple[str, str], dict[str, float]] = {}
    for cell in cells:
        here = dict.fromkeys(names, 1.0)
        for factor in profile:
            if factor.part == REST:
                if not _is_rest(profile, factor, cell):
                    continue
            elif not _matches(factor.part, cell):
                continue
            value = _at(factor, depths[cell[0]])
            for name in names:
                if factor.coefficient in ("", name):
                    here[name] *= value
        shaped[cell] = here
    return shaped


def multiplied(
    profile: Profile, by: Mapping[tuple[str, str], float], parameters: Sequence[Parameter], coefficients: Iterable[str]
) -> Profile:
    """The profile whose factors in some cells are multiplied; everywhere else the merge stays as it is.

    Args:
        profile: what there is.
        by: what to multiply with, by (layer, matrix).
        parameters, coefficients: of the model and of the method, as for `factors`.
    """
    names, depths = tuple(coefficients), _depths(parameters)
    changed = {f"{layer}/{matrix}": (layer, matrix) for layer, matrix in by}
    found = [factor for factor in profile if factor.part not in changed]
    rests = [factor for factor in profile if factor.part == REST]
    for part, cell in changed.items():
        own = {factor.coefficient: factor.curve for factor in profile if factor.part == part}
        apart = any(own)  # one factor on all coefficients, or one on each
        for name in names if apart else ("",):
            value = by[cell]
            if name in own:
                value *= _at(Factor(part, name, own[name]), depths[cell[0]])
            else:  # from now on the cell has a part of its own, and what held for the rest no longer reaches it
                reaching = [rest for rest in rests if rest.coefficient == name and _is_rest(profile, rest, cell)]
                value *= math.prod(_at(rest, depths[cell[0]]) for rest in reaching)
            found.append(Factor(part, name, (_number(value, f"The factor of {part}"),)))
    if len(found) > MAX_FACTORS:
        raise SettingError(f"A profile has at most {MAX_FACTORS} factors, not {len(found)}.")
    return tuple(sorted(found))


def spelled_out(profile: Profile, parameters: Sequence[Parameter], coefficients: Iterable[str]) -> Profile:
    """The profile that says the same without ``rest``: its factors stand at the layers and cells that it reaches.

    Args:
        profile: what there is.
        parameters, coefficients: of the model and of the method, as for `factors`.

    A part that is named keeps ``rest`` away. Where no ``rest`` is left, naming another part changes that part alone.
    """
    names, depths = tuple(coefficients), _depths(parameters)
    layers: dict[str, list[tuple[str, str]]] = {}
    for cell in dict.fromkeys((parameter.layer, parameter.matrix) for parameter in parameters):
        layers.setdefault(cell[0], []).append(cell)
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for factor in profile:
        if factor.part != REST:
            found.setdefault(factor.part, {})[factor.coefficient] = factor.curve
    for rest in (factor for factor in profile if factor.part == REST):
        for layer, cells in layers.items():
            value = _at(rest, depths[layer])
            reached = [cell for cell in cells if _is_rest(profile, rest, cell)]
            for part in [layer] if reached == cells else ["/".join(cell) for cell in reached]:
                if value != 1.0:
                    found[part] = _times(found.get(part, {}), rest.coefficient, value, names)
    return make_profile({part: held.get("", held) for part, held in found.items()})


def _times(
    held: Mapping[str, tuple[float, ...]], coefficient: str, value: float, names: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    """The curves of a part by coefficient, one of them multiplied: one on all coefficients, or one on each."""
    curves = dict(held)
    if curves and ("" in curves) != (coefficient == ""):
        whole = curves.pop("", (1.0,))
        curves = {**dict.fromkeys(names, whole), **curves}
    for name in (coefficient,) if coefficient or "" in curves or not curves else tuple(curves):
        curves[name] = tuple(number * value for number in curves.get(name, (1.0,)))
    return curves


def _is_rest(profile: Profile, rest: Factor, cell: tuple[str, str]) -> bool:
    """Whether no other part of the same coefficient reaches a cell."""
    rivals = (other for other in profile if other.coefficient == rest.coefficient and other is not rest)
    return not any(_matches(other.part, cell) for other in rivals)


@dataclass(frozen=True, slots=True)
class _Depth:
    """How far down its tower a layer stands, 0 to 1; `outside` where it is no block."""

    share: float
    outside: bool


def _depths(parameters: Sequence[Parameter]) -> dict[str, _Depth]:
    """By layer. A stem is at 0, and what else is no block at 1."""
    blocks: dict[str, list[int]] = {}
    for parameter in parameters:
        if parameter.block is not None:
            blocks.setdefault(parameter.tower, []).append(parameter.block)
    found: dict[str, _Depth] = {}
    for parameter in parameters:
        if parameter.block is None:
            found[parameter.layer] = _Depth(0.0 if parameter.layer.endswith("stem") else 1.0, True)
            continue
        order = sorted(set(blocks[parameter.tower]))
        found[parameter.layer] = _Depth(order.index(parameter.block) / max(1, len(order) - 1), False)
    return found


def _at(factor: Factor, depth: _Depth) -> float:
    """The factor at a depth."""
    curve = factor.curve
    if len(curve) == 1:
        return curve[0]
    if depth.outside and factor.part != REST:
        return 1.0
    place = depth.share * (len(curve) - 1)
    left = min(int(place), len(curve) - 2)
    share = place - left
    return curve[left] * (1.0 - share) + curve[left + 1] * share


def _matches(part: str, cell: tuple[str, str]) -> bool:
    layer, matrix = cell
    names = (matrix, *(group for group, matrices in GROUPS.items() if matrix in matrices))
    return part == layer or any(part in (name, f"{layer}/{name}") for name in names)


def _check(
    profile: Profile, cells: Iterable[tuple[str, str]], depths: Mapping[str, _Depth], coefficients: Sequence[str]
) -> None:
    for factor in profile:
        reached = [cell for cell in cells if factor.part == REST or _matches(factor.part, cell)]
        if not reached:
            layers, matrices = (", ".join(dict.fromkeys(cell[side] for cell in cells)) for side in (0, 1))
            raise SettingError(
                f"This model has no part {quoted(factor.part)}. Matrices: {matrices}; layers: {layers}; a cell is "
                f"written as layer/matrix, and {REST!r} is all that no other part names."
            )
        if factor.coefficient and factor.coefficient not in coefficients:
            raise SettingError(
                f"The profile names {quoted(factor.coefficient)} at {quoted(factor.part)}, which is no coefficient "
                f"of this method. It has: {', '.join(coefficients)}."
            )
        if len(factor.curve) > 1 and all(depths[layer].outside for layer, _ in reached):
            raise SettingError(
                f"The profile has a curve over depth at {quoted(factor.part)}, which is in no block: give one number."
            )


def _curve(value: Any, where: str) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        return (_number(value, f"The factor of {where}"),)
    if not 1 <= len(value) <= MAX_CURVE:
        raise SettingError(f"The curve of {where} must have 1 to {MAX_CURVE} numbers, not {len(value)}.")
    return tuple(_number(entry, f"Each number in the curve of {where}") for entry in value)


def _number(value: Any, what: str) -> float:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if not abs(number) <= LARGEST:
        raise SettingError(f"{what} must be a number from {-LARGEST:g} to {LARGEST:g}, not {value!r:.60}.")
    return number + 0.0  # -0.0 is 0.0: equal profiles shall read alike
