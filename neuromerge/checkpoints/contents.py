"""Finding a state dict in what a trainer saved: whole modules, containers of any name, training states."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.parts import choice, find_clips, plain_keys
from neuromerge.checkpoints.pickles import Call, Global, OddTensor, PickleError, TensorRef
from neuromerge.checkpoints.text import shown

Tensor = TensorRef | OddTensor

# Containers by the names that trainers give them, the likeliest first.
_KNOWN = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "student",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
    "ema",
    "params_ema",
    "teacher",
)
# What a training state holds beside the model, tensors and all.
_TRAINING = re.compile(r"optim|sched|scaler|callback|loops?$|rng|random|loss|hyper_?param|args|config", re.IGNORECASE)
_MAX_DEPTH = 12
_MAX_STATE_DICTS = 64
_MAX_MODULES = 200_000
_MAX_NESTING = 200


@dataclass(frozen=True, slots=True)
class Found:
    """A state dict: the path of names that leads to it, its tensors, and what it held that is no tensor."""

    path: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The path as text."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The state dict that is meant, what is left of the part asked for, and what was left out, with the reason."""

    tensors: Mapping[str, Tensor]
    part: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def choose_state_dict(content: Any, part: str | None = None) -> Chosen:
    """The state dict inside what was unpickled.

    Args:
        content: what `read_pickle` gives.
        part: a container's name, where several are possible; a prefix of keys may follow it, or stand alone.

    Raises:
        PickleError: none is there, or several are and nothing tells which is meant.
    """
    found = _distinct(list(_state_dicts(content, (), 0, set())))
    if not found:
        raise PickleError(f"holds no state dict (found {_described(content)}). Save the model's state_dict()")
    asked, rest = _asked(found, part)
    chosen = asked or _likeliest(found)
    left_out = {".".join((*chosen.path, name)): "no tensor, left out" for name in chosen.others}
    for other in found:
        if other is not chosen:
            left_out[other.name] = f"{len(other.tensors)} tensors in another state dict (#{other.name} takes it)"
    if isinstance(content, Mapping):
        # What stands beside the container; a bare state dict has told its own.
        roots = {other.path[0] for other in found if other.path}
        for name in content if chosen.path else ():
            if isinstance(name, str) and name not in roots:
                left_out.setdefault(name, "part of the training state, left out")
    return Chosen(chosen.tensors, rest, left_out)


def _state_dicts(value: Any, path: tuple[str, ...], depth: int, seen: set[int]) -> Iterator[Found]:
    """Every mapping of names to tensors and every module, outermost first."""
    if depth > _MAX_DEPTH or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Call):
        tensors = _module_tensors(value)
        if tensors:
            yield Found(path, tensors)
        elif value.items and all(isinstance(item, tuple) and len(item) == 2 for item in value.items):
            # A dict of a class of its own (EasyDict, an attribute dict).
            plain = {key: item for key, item in value.items if isinstance(key, str)}
            yield from _state_dicts(plain, path, depth + 1, seen)
        else:
            # A namespace or a trainer. What has another name may be no weights: a task vector is an object, too.
            named = {name: value.attributes[name] for name in _KNOWN if name in value.attributes}
            yield from _state_dicts(named, path, depth + 1, seen)
        return
    if isinstance(value, (list, tuple)):  # (model, optimizer) and the like
        value = {str(number): item for number, item in enumerate(value[:_MAX_STATE_DICTS]) if not _is_tensor(item)}
    if not isinstance(value, Mapping):
        return
    tensors = {key: item for key, item in value.items() if isinstance(key, str) and _is_tensor(item)}
    nested = [(k, v) for k, v in value.items() if isinstance(k, str) and isinstance(v, (Mapping, Call, list, tuple))]
    if tensors and (any("." in key for key in tensors) or not any(_holds_more(v) for _, v in nested)):
        others = tuple(key for key in value if isinstance(key, str) and key not in tensors and key != "_metadata")
        yield Found(path, tensors, others)
        return
    for key, item in nested:
        if not _TRAINING.search(key):
            yield from _state_dicts(item, (*path, key), depth + 1, seen)
    if tensors:
        yield Found(path, tensors)


def _holds_more(value: Any) -> bool:
    """Whether a value beside single tensors is a state dict itself (beside a queue or a centre, say)."""
    return any(True for _ in _state_dicts(value, (), 1, set()))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (TensorRef, OddTensor))


def _module_tensors(module: Call) -> dict[str, Tensor]:
    """The state dict of a pickled module: parameters, then buffers that are kept, then its children's.

    A module that is registered twice is saved twice, as PyTorch does; a circle is not followed.
    """
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[Call, str, frozenset[int]]] = [(module, "", frozenset())]
    for _ in range(_MAX_MODULES):
        if not waiting:
            return tensors
        current, prefix, above = waiting.pop()
        if len(above) > _MAX_NESTING:
            break
        own, children = _members(current)
        tensors.update({prefix + name: value for name, value in own.items()})
        above = above | {id(current)}
        below = [(child, f"{prefix}{name}.", above) for name, child in children.items() if id(child) not in above]
        waiting += reversed(below)  # the first child is looked into next: the order of a state dict
    raise PickleError("nests more modules than any network has")


def _members(module: Call) -> tuple[dict[str, Tensor], dict[str, Call]]:
    """The tensors and the children of one module, by name."""
    attributes = module.attributes
    scripted = isinstance(module.function, Global) and module.function.module.startswith("__torch__")
    if scripted:
        own, children = attributes, attributes
        passing: Any = ()
    else:
        own = {**_mapping(attributes.get("_parameters")), **_mapping(attributes.get("_buffers"))}
        children = _mapping(attributes.get("_modules"))
        passing = attributes.get("_non_persistent_buffers_set")
    skipped = [name for name in passing if isinstance(name, str)] if isinstance(passing, (list, tuple)) else []
    tensors = {
        name: value
        for name, value in own.items()
        if isinstance(name, str) and isinstance(value, (TensorRef, OddTensor)) and name not in skipped
    }
    return tensors, {name: c for name, c in children.items() if isinstance(name, str) and isinstance(c, Call)}


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _distinct(found: list[Found]) -> list[Found]:
    """Without those that name the very tensors of an earlier one again."""
    kept: list[Found] = []
    for candidate in found[:_MAX_STATE_DICTS]:
        marks = {id(tensor) for tensor in candidate.tensors.values()}
        if not any(marks == {id(tensor) for tensor in other.tensors.values()} for other in kept):
            kept.append(candidate)
    return kept


def _asked(found: list[Found], part: str | None) -> tuple[Found | None, str | None]:
    """The state dict that `part` begins with, and the rest of `part`: a prefix of its keys."""
    if part is None:
        return None, None
    for candidate in sorted(found, key=lambda f: -len(f.path)):
        if part == candidate.name:
            return candidate, None
        if candidate.path and part.startswith(candidate.name + "."):
            return candidate, part[len(candidate.name) + 1 :]
    return None, part


def _likeliest(found: list[Found]) -> Found:
    """The state dict that is meant where nobody said: the one that holds a model, averaged copies aside."""
    if len(found) == 1:
        return found[0]
    clips = [candidate for candidate in found if find_clips(plain_keys(candidate.tensors))]
    live = [candidate for candidate in clips if not _is_averaged(candidate)]
    candidates = live or clips or [c for c in found if not _is_averaged(c)] or found
    if len(candidates) == 1:
        return candidates[0]
    if not clips:
        known = [c for name in _KNOWN for c in candidates if c.path and c.path[-1] == name]
        rivals = {c.path[-1] for c in known} & {"student", "teacher"}
        if known and len(rivals) < 2:
            return known[0]
        largest = max(candidates, key=lambda c: len(c.tensors))
        if not known and len(largest.tensors) > 4 * sum(len(c.tensors) for c in candidates if c is not largest):
            return largest
    names = [candidate.name or "." for candidate in candidates]
    raise PickleError(f"holds {len(names)} models: {choice(names)}")


def _is_averaged(candidate: Found) -> bool:
    return bool(layouts.AVERAGED.search("".join(name + "." for name in candidate.path)))


def _described(content: Any) -> str:
    if isinstance(content, Call):
        return f"a {shown(str(content))}"
    if isinstance(content, TensorRef):
        return "one tensor"
    if isinstance(content, Mapping):
        names = [shown(key, 40) for key in content if isinstance(key, str)]
        if not names:
            return "a dict without names"
        what = "NumPy arrays, no tensors: " if all(map(_is_numpy, content.values())) else ""
        return f"a dict of {what}{', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
    return type(content).__name__


def _is_numpy(value: Any) -> bool:
    return isinstance(value, Call) and isinstance(value.function, Global) and value.function.module.startswith("numpy")
