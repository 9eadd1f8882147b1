"""What a fresh page shows, kept on disk from one start of the server to the next.

One small file in the cache folder: accuracies, the numbers beside the sliders, the strength curves of the opening merge
and of the one it is compared with. Its first line names the fingerprint of all that they follow from: weights,
pictures, settings, and the code itself. A file with another fingerprint, or one that is not bit by bit what was
written, counts for nothing and is written anew. It is read as data: JSON and arrays, no pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neuromerge.atomic import replacing
from neuromerge.checkpoints.sources import BUNDLED
from neuromerge.deployment import deployment
from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.engine import FamilyEngine
from neuromerge.errors import CheckpointError, NeuroMergeError
from neuromerge.evaluation.picture_files import DAMAGE
from neuromerge.exploration import regions, scores, strength
from neuromerge.exploration.results import MergeSummary, StrengthCurve
from neuromerge.exploration.summary import summary
from neuromerge.json_files import beginning, parse_json
from neuromerge.progress import UNATTENDED, Job, Urgency
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

FILE = "opening"
SPLITS = ("quick", "validation")
_MOST_BYTES = 8 * 2**20
_MOST_HASHED = 2**29  # bytes of a family that are read at every start to know that it is the same; 60 MB are bundled
_PACKAGE = Path(__file__).resolve().parents[1]
_SOURCES = {".py", ".yaml", ".json"}


class Opening:
    """What a fresh page shows: one merge, beside what it is compared with.

    Args:
        engine: of the family of both.
        setting, compared: the two merges.
        folder: where the file is kept; the cache folder of this deployment when None.
    """

    def __init__(self, engine: FamilyEngine, setting: Setting, compared: Setting, folder: Path | None = None) -> None:
        self._engine, self._setting, self._compared = engine, setting, compared
        self._file = (deployment().cache if folder is None else folder) / FILE

    def recall(self) -> bool:
        """Take what was kept into the cache; whether there was anything. Computes nothing, and raises nothing."""
        mark = self._fingerprint()
        try:
            answers = None if mark is None else _read(self._file, mark)
            if answers is None:
                return False
            self._take(answers)
        except (*DAMAGE, NeuroMergeError, TypeError, AttributeError):
            return False
        return True

    def prepare(self, job: Job = UNATTENDED) -> None:
        """Compute what is not known yet, and keep it; then write the merge into a model, for the first moved slider.

        Raises NeuroMergeError where the merge cannot be made or measured. That it cannot be kept is no error.
        """
        if not self._is_known():
            mark = self._fingerprint()
            self._compute(job)
            # Where files have changed meanwhile, nobody knows which of them were measured.
            if mark is not None and mark == self._fingerprint():
                with contextlib.suppress(OSError):
                    _write(self._file, mark, self._told(job))
        with self._engine.models.borrow(Contents(setting=self._setting), job):
            pass

    # ---------------------------------------------------------------------------------------- what it is
    def _compute(self, job: Job) -> None:
        for split in SPLITS:
            scores.board(self._engine.models, self._setting, split, self._compared, None, "", job)
        self._summary(job)
        for shown in (self._setting, self._compared):
            self._curve(shown, Job(urgency=Urgency.WHENEVER))

    def _is_known(self) -> bool:
        cached = self._engine.cache
        return cached.peek(regions.SUMMARY, self._setting) is not None and all(
            cached.peek(regions.CURVE, shown) is not None for shown in (self._setting, self._compared)
        )

    def _summary(self, job: Job) -> MergeSummary:
        stages, setting = self._engine.stages, self._setting
        return self._engine.cache.get(regions.SUMMARY, setting, lambda: summary(stages, setting, job), job)

    def _curve(self, shown: Setting, job: Job) -> StrengthCurve:
        *_, curve = strength.strength_curve(self._engine, shown, job)
        return curve

    def _asked(self) -> Iterator[tuple[str, Contents, tuple[str, ...]]]:
        """Everything that a board looks at: a name, the weights, and the tasks that are measured."""
        models = self._engine.models
        tasks = models.with_pictures(tuple(models.family.tasks), SPLITS[0])
        yield "base", BASE, tasks
        yield "merge", Contents(setting=self._setting), tasks
        yield "compared", Contents(setting=self._compared), tasks
        for task in tasks:
            if task in models.family.experts:
                yield f"expert {task}", Contents(task=task), (task,)

    def _told(self, job: Job) -> dict[str, np.ndarray]:
        """All of it as arrays by name; what is no array as one JSON text."""
        models = self._engine.models
        arrays: dict[str, np.ndarray] = {}
        counts: dict[str, dict[str, dict[str, list[int]]]] = {}
        for name, contents, tasks in self._asked():
            for split in SPLITS:
                found = models.scores(contents, tasks, split, job)
                counts.setdefault(name, {})[split] = {task: [each.correct, each.n] for task, each in found.items()}
            for task, embedding in models.embeddings(contents, tasks, SPLITS[0], job).items():
                arrays[f"{name}/{task}"] = embedding.numpy()
        curves = [_plain(self._curve(shown, job)) for shown in (self._setting, self._compared)]
        said = {"counts": counts, "summary": asdict(self._summary(job)), "curves": curves}
        return {**arrays, "said": np.frombuffer(json.dumps(said).encode(), dtype=np.uint8)}

    def _take(self, told: Mapping[str, np.ndarray]) -> None:
        """Put what `_told` gave into the cache, all or nothing. Raises ValueError and its like for anything else."""
        models, cached = self._engine.models, self._engine.cache
        said = parse_json(told["said"].tobytes(), FILE, remedy="Delete it.", error=CheckpointError)
        found = [
            (
                contents,
                {split: {task: Accuracy.of(*said["counts"][name][split][task]) for task in tasks} for split in SPLITS},
                {task: torch.from_numpy(told[f"{name}/{task}"]) for task in tasks},
            )
            for name, contents, tasks in self._asked()
        ]
        own_summary = MergeSummary(**{**said["summary"], "warnings": tuple(said["summary"]["warnings"])})
        curves = [_curve_of(curve) for curve in said["curves"]]
        for contents, counts, embeddings in found:
            for split, known in counts.items():
                models.recall(contents, split, known, embeddings if split == SPLITS[0] else {})
        cached.put(regions.SUMMARY, self._setting, own_summary)
        for shown, curve in zip((self._setting, self._compared), curves, strict=True):
            cached.put(regions.CURVE, shown, curve)

    def _fingerprint(self) -> str | None:
        return fingerprint(self._engine.models.family, self._setting, self._compared)


def fingerprint(family: Family, *settings: Setting) -> str | None:
    """A mark of all that the answers about these settings follow from.

    None where that cannot be told by reading some files: families that are not in one folder of their own, and large
    ones.
    """
    try:
        files = _files_of(family)
        if files is None or sum(file.stat().st_size for file in files) > _MOST_HASHED:
            return None
        mark = hashlib.sha256(code_version(_PACKAGE).encode())
        mark.update(repr((family, settings)).encode())
        for file in files:
            mark.update(f"{file}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
            mark.update(beginning(file, _MOST_HASHED))
    except OSError:
        return None
    return mark.hexdigest()


@cache
def code_version(package: Path) -> str:
    """A mark of the code in a folder and of what computes for it: libraries and kind of processor."""
    mark = hashlib.sha256(repr((np.__version__, torch.__version__, platform.machine())).encode())
    mark.update(torch.backends.cpu.get_cpu_capability().encode())
    for path in sorted(path for path in package.rglob("*") if path.suffix in _SOURCES):
        mark.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return mark.hexdigest()


def _files_of(family: Family) -> list[Path] | None:
    """Every file of a family that lies in one folder; None for any other family. Raises OSError."""
    if family.folder is None or family.online:
        return None
    own = family.folder.resolve()
    outside = [
        path
        for path in (
            *(Path(source) for source in (family.base, *family.experts.values()) if not source.startswith(BUNDLED)),
            *(task.samples.path for task in family.tasks.values() if task.samples.path is not None),
        )
        if not path.resolve().is_relative_to(own)
    ]
    if outside or any(task.samples.kind == "hub" for task in family.tasks.values()):
        return None
    files: list[Path] = []
    for place, folders, names in os.walk(own):
        if any((Path(place) / folder).is_symlink() for folder in folders):
            return None  # what is behind it is not walked
        files += [Path(place) / name for name in names]
    return sorted(files)


def _read(file: Path, mark: str) -> dict[str, np.ndarray] | None:
    """The arrays that were kept under this fingerprint; None where there are none, or others."""
    first, _, rest = beginning(file, _MOST_BYTES).partition(b"\n")
    if first != _first_line(mark, rest):
        return None
    with np.load(io.BytesIO(rest), allow_pickle=False) as arrays:
        return dict(arrays)


def _write(file: Path, mark: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays under a fingerprint, in the place of what was kept before. Raises OSError."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    rest = buffer.getvalue()
    file.parent.mkdir(parents=True, exist_ok=True)
    if len(rest) < _MOST_BYTES // 2:
        with replacing(file) as beside:
            beside.write_bytes(_first_line(mark, rest) + b"\n" + rest)


def _first_line(mark: str, rest: bytes) -> bytes:
    return f"{mark} {hashlib.sha256(rest).hexdigest()}".encode()


def _plain(curve: StrengthCurve) -> dict[str, Any]:
    told = asdict(curve)
    return {**told, "strengths": curve.strengths.tolist(), "accuracy": curve.accuracy.tolist()}


def _curve_of(told: dict[str, Any]) -> StrengthCurve:
    return StrengthCurve(**{**told, "strengths": np.array(told["strengths"]), "accuracy": np.array(told["accuracy"])})
