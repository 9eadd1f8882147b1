"""mergekit's words in recipes, put into the words of this project where both mean the same merge.

With T experts, task vectors tau_t, weights w_t (their sum W), density d and lambda l, mergekit computes

    task_arithmetic   base + l sum w_t tau_t                       (normalize: divided by W)
    dare_linear       the same of tau_t thinned to d and divided by d
    ties              base + l * weighted mean of what agrees of tau_t trimmed to d   (normalize: false: the sum)
    dare_ties         the same of thinned tau_t, where the sum is the default
    linear            sum w_t theta_t / W, the base's own weight counted where it is listed

and each is a method here: the trim ratio and the drop rate are 1 - d, `scale` is what is left of l and of equal
weights, and `linear` is base + (1/W) sum w_t tau_t. Two differences remain: the trim of TIES is over the whole model
here (and keeps the entries that lie on the threshold), over each tensor there, which a note says; and a vote that is
tied exactly takes the majority's sign here, plus there.

What means something else here, or nothing, is a problem: all of them are listed at once, each with what to write.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

DTYPES = ("float32", "float16", "bfloat16")

_VALUES = ("weight", "density", "lambda", "normalize", "rescale", "int8_mask")
"""Words that mean something here, under `parameters` of the recipe or of one model."""
METHODS = ("linear", "dare_linear", "dare_ties")
_NORMALIZED = {"linear": True, "ties": True}  # the default of `normalize`; false for the others

_TOP_REMEDIES = {
    "slices": "layers are not taken apart here; list whole models under models",
    "modules": "a model is merged as a whole; list whole models under models",
    "chat_template": "the base's is kept; leave it out",
}
_VALUE_REMEDIES = {
    "gamma": "breadcrumbs are not known here; leave it out and use ties",
    "epsilon": "della is not known here; leave it out and use dare_linear or dare_ties",
    "t": "slerp is not known here; use linear with weights, or task_arithmetic",
    "select_topk": "sce is not known here; use ties with a density",
}
_METHOD_REMEDIES = {
    "slerp": "linear",
    "nuslerp": "linear",
    "multislerp": "linear",
    "karcher": "linear",
    "model_stock": "linear",
    "nearswap": "task_arithmetic",
    "arcee_fusion": "task_arithmetic",
    "breadcrumbs": "task_arithmetic",
    "breadcrumbs_ties": "ties",
    "della": "dare_ties",
    "della_linear": "dare_linear",
    "sce": "ties",
    "passthrough": "task_arithmetic",
}
_YES = ("true", "yes", "on", "1")
_NO = ("false", "no", "off", "0")


@dataclass
class Translation:
    """A recipe in the words of this project.

    Attributes:
        content: the recipe without mergekit's words.
        dtype: the type to write floats in; None for the base's.
        notes: what a reader of the result should know.
        problems: what cannot be translated, each with what to write instead.
    """

    content: dict[str, Any]
    dtype: str | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def nearest_method(name: str) -> str:
    """The method here that comes nearest to one of mergekit's that is not known here; '' for any other name."""
    return _METHOD_REMEDIES.get(name, "")


def translate(content: Mapping[str, Any], hyperparameters: Callable[[str], frozenset[str]]) -> Translation:
    """`content`, a recipe as nested dicts, lists and texts, with mergekit's words replaced.

    `hyperparameters` gives the names of a method's own; names and types of everything else are checked later.
    """
    done = Translation(dict(content))
    _files(done)
    method = content.get("merge_method")
    if isinstance(method, str):
        _Values(done, method, hyperparameters).translate()
    return done


# ------------------------------------------------------------------------------------- what is read and written


def _files(done: Translation) -> None:
    """`dtype`, `out_dtype`, the tokenizer, and parts of models."""
    content = done.content
    wanted = {key: content.pop(key) for key in ("dtype", "out_dtype") if content.get(key) is not None}
    content.pop("dtype", None)
    content.pop("out_dtype", None)
    for key, value in wanted.items():
        name = str(value).removeprefix("torch.").strip()
        if name not in DTYPES:
            done.problems.append(f"{key} {_shown(value)}: write {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
        else:
            done.dtype = name  # out_dtype comes last and wins, as in mergekit
    if "dtype" in wanted and done.dtype:
        done.notes.append(f"floats are written as {done.dtype}; the merge itself is computed in float32")
    for key in ("tokenizer_source", "tokenizer"):
        given = content.pop(key, None)
        source = given.get("source") if isinstance(given, Mapping) and set(given) == {"source"} else given
        if source not in (None, "", "base", content.get("base_model")):
            done.problems.append(f"{key}: only the base's tokenizer is kept; write {key}: base, or leave it out")
    for key, remedy in _TOP_REMEDIES.items():
        if key in content:
            del content[key]
            done.problems.append(f"{key}: {remedy}")


# ------------------------------------------------------------------------------------------- how it is merged


class _Values:
    """The numbers of one recipe, taken out of its `parameters` and those of its models."""

    def __init__(self, done: Translation, method: str, hyperparameters: Callable[[str], frozenset[str]]) -> None:
        self.done, self.method, self.hyperparameters = done, method, hyperparameters
        self.said: set[str] = set()
        self.experts: list[dict[str, Any]] = []
        self.curve: list[Any] = []
        content = done.content
        given = content.get("parameters")
        self.common: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
        self.was_mapping = given is None or isinstance(given, Mapping)
        entries = content.get("models")
        self.entries: list[dict[str, Any]] = (
            [dict(entry) for entry in entries]
            if isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries)
            else []
        )
        self.own = [self._taken(number, entry) for number, entry in enumerate(self.entries, start=1)]

    def translate(self) -> None:
        """Replace the words in `done.content`."""
        if not self.entries or not self.was_mapping:
            return  # malformed: said where recipes are checked
        self.done.content["models"] = self.entries
        self._foreign()
        shared = {word: self.common.pop(word) for word in _VALUES if word in self.common}
        read = [{**shared, **own} for own in self.own]
        self.said = {word for values in (shared, *read) for word in values}
        if self.said or self.method in METHODS:
            self._merge(read, shared)
        if self.common:
            self.done.content["parameters"] = self.common
        else:
            self.done.content.pop("parameters", None)

    def _taken(self, number: int, entry: dict[str, Any]) -> dict[str, Any]:
        """The `parameters` of one model, removed from its entry; words that do not belong there are problems."""
        given = entry.pop("parameters", None)
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            self._problem(f"parameters of model {number}", "must be names with values, such as weight: 1")
            return {}
        known = self.hyperparameters(self.method)
        if "weight" in given and "weight" in entry:
            self._problem(f"weight of model {number}", "it has two of them; give one")
        for word in given:
            if word in known:
                self._problem(
                    f"{word} of model {number}", "holds for all models; write it under parameters: at the top"
                )
            elif word not in _VALUES:
                self._problem(f"{word} of model {number}", _VALUE_REMEDIES.get(str(word), "is not known; leave it out"))
        return {word: value for word, value in given.items() if word in _VALUES}

    def _foreign(self) -> None:
        """Values of methods that are not known here."""
        known = self.hyperparameters(self.method)
        for word, remedy in _VALUE_REMEDIES.items():
            if word in self.common and word not in known:
                del self.common[word]
                self._problem(word, remedy)

    def _merge(self, read: list[dict[str, Any]], shared: Mapping[str, Any]) -> None:
        if "int8_mask" in self.said:
            self.done.notes.append("int8_mask changes nothing here: votes are counted without a mask in memory")
        for word in ("lambda", "normalize", "rescale", "int8_mask"):
            if any(word in own for own in self.own):
                self._problem(f"{word} of one model", "holds for all models; write it under parameters: at the top")
        base = self._base()
        listed = [entry.get("model") == base for entry in self.entries]
        self.experts = [entry for entry, is_base in zip(self.entries, listed, strict=True) if not is_base]
        normalize = self._flag("normalize", shared, _NORMALIZED.get(self.method, False))
        # A list of values, or entries with filters, for all models alike is a coefficient that differs over depth. In a
        # mean weights cancel: there they are left, to be refused.
        curved = [word for word in ("lambda", "weight") if isinstance(shared.get(word), list)]
        if (
            len(curved) == 1
            and not any(curved[0] in own for own in self.own)
            and (curved[0] == "lambda" or not normalize)
        ):
            self.curve = shared[curved[0]]
            shared = {word: value for word, value in shared.items() if word != curved[0]}
            read = [{word: value for word, value in values.items() if word != curved[0]} for values in read]
        weights = [self._number("weight", values, 1.0) for values in read]
        experts = [values for values, is_base in zip(read, listed, strict=True) if not is_base]
        density = self._density([self._number("density", values, 1.0) for values in experts])
        if 0 < (silent := sum("weight" not in values for values in experts)) < len(experts):
            told = "model gives" if silent == 1 else "models give"
            self.done.notes.append(f"{silent} {told} no weight beside those that do: 1 is taken")
        factor = self._number("lambda", shared, 1.0)
        own = [weight for weight, is_base in zip(weights, listed, strict=True) if weight is not None and not is_base]
        if not experts or None in weights or density is None or factor is None or normalize is None:
            return  # malformed values are problems already; a recipe without experts is refused later
        if self.method == "linear":
            of_base = sum(weight or 0.0 for weight, is_base in zip(weights, listed, strict=True) if is_base)
            self._linear(own, of_base, normalize)
        else:
            self._general(own, density, factor, normalize, shared)

    def _base(self) -> Any:
        """The base; for `linear`, which needs none in mergekit, the first model."""
        content = self.done.content
        if self.method == "linear" and not content.get("base_model"):
            content["base_model"] = self.entries[0].get("model")
            self.done.notes.append(
                f"base_model is not named: {content['base_model']} takes its place, and gives what is not merged"
            )
        return content.get("base_model")

    def _linear(self, weights: list[float], base_weight: float, normalize: bool) -> None:
        for word in ("density", "lambda", "rescale"):
            if word in self.said:
                self._problem(word, "linear has none; leave it out, or use dare_linear")
        total = sum(weights) + base_weight
        if not normalize and not math.isclose(total, 1.0, abs_tol=1e-9):
            self._problem(
                "normalize: false",
                f"the weights add up to {total:g}, which scales the whole model; let them add up to 1",
            )
        elif abs(total) < 1e-8:
            self._problem("weight", "the weights add up to 0; give other weights")
        else:
            self._set_method("task_arithmetic")
            self._set_scale(weights, 1.0 / total if normalize else 1.0)

    def _general(
        self,
        weights: list[float],
        density: float,
        factor: float,
        normalize: bool,
        shared: Mapping[str, Any],
    ) -> None:
        """The methods that mergekit calls generalised task arithmetic, and those of this project."""
        method = self.method
        drops = method in ("dare_linear", "dare_ties", "dare")
        rescale = self._flag("rescale", shared, drops)
        if rescale is not None and rescale != drops:
            remedy = "what is kept is always divided by the density" if drops else "what is kept stays as it is"
            self._problem(f"rescale: {str(rescale).lower()}", f"{remedy}; leave it out")
        if method in ("dare_linear", "dare_ties"):
            self._set_method("dare")
            self._set("after", "ties" if method == "dare_ties" else "task_arithmetic", method)
            self._set("drop_rate", round(1.0 - density, 12), "density")
        elif "density" in self.said:
            self._set_density(density)
        if method == "dare_ties":
            self._set("ties_trim_ratio", 0.0, method)
        if method in ("ties", "dare_ties"):
            self._vote(weights, factor, normalize)
        elif self.said & {"lambda", "weight", "normalize"} or method == "dare_linear":
            total = sum(weights)
            self._set_scale(weights, factor / total if normalize and total != 0.0 else factor)

    def _set_density(self, density: float) -> None:
        known = self.hyperparameters(self.method)
        if "trim_ratio" in known:
            self._set("trim_ratio", round(1.0 - density, 12), "density")
            self.done.notes.append(
                f"density {density:g} is read as trim_ratio {1.0 - density:g}; the trim here is over the whole model, "
                "in mergekit over each tensor"
            )
        elif "drop_rate" in known:
            self._set("drop_rate", round(1.0 - density, 12), "density")
        elif density != 1.0:
            self.done.notes.append(f"density changes nothing: {self.method} drops nothing")

    def _vote(self, weights: list[float], factor: float, normalize: bool) -> None:
        """TIES after whichever thinning. A mean takes equal weights out of the vote; a sum keeps them as a factor."""
        if min(weights) <= 0:
            self._problem("weight", "a vote takes weights above 0; leave that model out")
        elif normalize and len(set(weights)) > 1:
            self._problem("weight", "a mean of what agrees gives every model the same weight; write normalize: false")
        else:
            self._set("combine", "mean" if normalize else "sum", "normalize", said="normalize" in self.said)
            if normalize:
                self._give_scale(factor)
            else:
                self._set_scale(weights, factor)

    # --------------------------------------------------------------------------------------------- small steps

    def _set_method(self, name: str) -> None:
        self.done.content["merge_method"] = name

    def _set_scale(self, weights: list[float], factor: float) -> None:
        """One coefficient from equal weights; weights that differ stay with their models."""
        apart = len(set(weights)) > 1
        if "scale" in self.hyperparameters(str(self.done.content["merge_method"])):
            self._give_scale(factor if apart else factor * weights[0])
            own = weights if apart else [1.0] * len(weights)
        else:
            own = weights
            if factor != 1.0 or self.curve:
                self._problem(
                    "lambda and weight", f"{self.method} has other coefficients; see `neuromerge methods {self.method}`"
                )
        for entry, weight in zip(self.experts, own, strict=True):
            if weight != 1.0:
                entry["weight"] = repr(weight)

    def _give_scale(self, scale: float) -> None:
        value = _times(self.curve, scale) if self.curve else scale
        self._set("scale", value, "lambda and weight", said=bool({"lambda", "weight"} & self.said))

    def _set(self, name: str, value: float | str | list[Any], word: str, *, said: bool = True) -> None:
        """Give a hyperparameter its value, unless the recipe has one of its own and `word` was not said beside it."""
        if name in self.common or name in self.done.content:
            if said:
                self._problem(word, f"says the same as {name}; give one of them")
            return
        self.common[name] = repr(value) if isinstance(value, float) else value

    def _density(self, given: list[float | None]) -> float | None:
        """The density of all experts; None, with a problem, where there is no such thing."""
        densities = [density for density in given if density is not None]
        if len(densities) < len(given) or not densities:
            return None
        if len(set(densities)) > 1:
            shown = ", ".join(f"{density:g}" for density in densities)
            self._problem(
                "density", f"the models' densities differ ({shown}; 1 where none is given); give them the same density"
            )
            return None
        if not 0.0 < densities[0] <= 1.0:
            self._problem(f"density {densities[0]:g}", "write a share above 0, up to 1")
            return None
        return densities[0]

    def _number(self, word: str, values: Mapping[str, Any], default: float) -> float | None:
        given = values.get(word)
        if given is None:
            return default
        if isinstance(given, list | Mapping):
            self._problem(word, "differs from layer to layer; write one number")
            return None
        try:
            number = float(given)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            self._problem(f"{word} {_shown(given)}", "is not a number")
            return None
        return number

    def _flag(self, word: str, values: Mapping[str, Any], default: bool) -> bool | None:
        given = values.get(word)
        if given is None:
            return default
        said = str(given).strip().lower()
        if said not in (*_YES, *_NO):
            self._problem(f"{word} {_shown(given)}", "write true or false")
            return None
        return said in _YES

    def _problem(self, what: str, remedy: str) -> None:
        said = f"{what}: {remedy}"
        if said not in self.done.problems:
            self.done.problems.append(said)


def _times(curve: list[Any], factor: float) -> list[Any]:
    """A list of values, or of entries with filters, each value times `factor`; what is no number is left as it is."""

    def times(value: Any) -> Any:
        if isinstance(value, list):
            return [times(entry) for entry in value]
        if isinstance(value, Mapping):
            return {key: times(entry) if key == "value" else entry for key, entry in value.items()}
        try:
            return repr(factor * float(value))
        except (TypeError, ValueError, OverflowError):
            return value

    return [times(entry) for entry in curve]


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
