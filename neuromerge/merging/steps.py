"""Steps that any linear method may take after its merge: LiNeS over the depth, SVC over the spectrum.

They are written ``lines:0.2:0.6`` (alpha and beta) and ``svc:0.1`` (alpha). LiNeS multiplies the coefficients by a
factor a block and so comes first, whatever the order they are given in; SVC works on the change that is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import SettingError, quoted
from neuromerge.merging.profile import Factors

SVC_ALPHA = 0.1
LINES = (0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done after the merge.

    Attributes:
        svc: alpha of singular value calibration, see `spectra.calibrated`; None without.
        lines: (alpha, beta) of LiNeS; None without.
    """

    svc: float | None = None
    lines: tuple[float, float] | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The steps as they are written, in the order they are taken."""
        lines = () if self.lines is None else (f"lines:{self.lines[0]:g}:{self.lines[1]:g}",)
        return lines if self.svc is None else (*lines, f"svc:{self.svc:g}")


NO_STEPS = Steps()


def parse_steps(given: str | Sequence[str] | None) -> Steps:
    """Steps from how they are written: ``svc``, ``svc:0.1``, ``lines``, ``lines:0.2:0.6``; one or several.

    Raises SettingError for an unknown step, one that is given twice, or numbers that it does not take.
    """
    svc: float | None = None
    lines: tuple[float, float] | None = None
    for text in [given] if isinstance(given, str) else given or ():
        name, *numbers = (part.strip() for part in str(text).split(":"))
        values = [_number(number, text) for number in numbers]
        if name.lower() == "svc" and svc is None and len(values) <= 1:
            svc = values[0] if values else SVC_ALPHA
            if svc <= 0.0:
                raise SettingError(f"The step {quoted(text)}: the alpha of svc is a number above 0, such as svc:0.1.")
        elif name.lower() == "lines" and lines is None and len(values) in (0, 2):
            lines = (values[0], values[1]) if values else LINES
        else:
            raise SettingError(
                f"The step {quoted(text)} is not understood. After a merge there may be, once each: svc or svc:ALPHA "
                "(such as svc:0.1), and lines or lines:ALPHA:BETA (such as lines:0.2:0.6)."
            )
    return Steps(svc, lines)


def _number(text: str, step: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingError(f"The step {quoted(step)}: {quoted(text)} is no number.")
    return value


def lines_factors(parameters: Iterable[Parameter], alpha: float, beta: float) -> dict[str, float]:
    """LiNeS [Wang 2025, arXiv 2410.17146]: layer -> alpha + beta * l / (L - 1) for block l of L, alpha outside blocks.

    Every tower of a model has blocks of its own. A tower of one block has alpha.
    """
    block_of = {p.layer: (p.tower, p.block) for p in parameters}
    last: dict[str, int] = {}
    for tower, block in block_of.values():
        if block is not None:
            last[tower] = max(last.get(tower, 0), block)
    return {
        layer: alpha + (beta * block / last[tower] if block and last[tower] else 0.0)
        for layer, (tower, block) in block_of.items()
    }


def with_lines(
    factors: Factors, parameters: Sequence[Parameter], names: Sequence[str], alpha: float, beta: float
) -> Factors:
    """The factors of a profile, each multiplied by that of LiNeS; `names` are those of the components."""
    by_layer = lines_factors(parameters, alpha, beta)
    shaped: dict[tuple[str, str], dict[str, float]] = {}
    for parameter in parameters:
        place = (parameter.layer, parameter.matrix)
        here = factors.get(place, {})
        shaped[place] = {name: here.get(name, 1.0) * by_layer[parameter.layer] for name in names}
    return shaped
