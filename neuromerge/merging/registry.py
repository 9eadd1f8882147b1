"""The registry of merge methods.

The command line, the recipes and the app build their options from here, so a method that registers itself
appears everywhere. What a method is: `method.MergeMethod`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuromerge.errors import SettingError, quoted
from neuromerge.merging.hyperparameters import AUTO, Hyperparameter
from neuromerge.merging.method import MergeMethod, check_contract

__all__ = ["AUTO", "Hyperparameter", "MergeMethod", "check_values", "get_method", "methods", "register", "unregister"]

_METHODS: dict[str, MergeMethod] = {}


def register(cls: type[MergeMethod]) -> type[MergeMethod]:
    """Class decorator: put one instance of the method into the registry. Raises ValueError for a broken contract."""
    if cls.name in _METHODS:
        raise ValueError(f"the merge method {cls.name!r} is registered twice")
    method = cls()
    check_contract(method)
    _METHODS[cls.name] = method
    return cls


def unregister(name: str) -> None:
    """Forget a method again, as tests of their own methods do. Raises SettingError for an unknown one."""
    get_method(name)
    del _METHODS[name]


def get_method(name: str) -> MergeMethod:
    """The method called `name`. Raises SettingError listing the known ones."""
    try:
        return _METHODS[name]
    except (KeyError, TypeError):
        raise SettingError(f"There is no merge method {quoted(name)}. Known: {', '.join(_METHODS)}.") from None


def methods() -> dict[str, MergeMethod]:
    """Every registered method by name, in order of registration."""
    return dict(_METHODS)


def check_values(method: MergeMethod, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` checked against the method's specification, defaults filled in.

    Raises SettingError for an unknown name or a value out of range.
    """
    known = {spec.name: spec for spec in method.hyperparameters}
    for name in given:
        if name not in known:
            raise SettingError(
                f"The method {method.name} has no parameter {quoted(name)}. It has: {', '.join(known) or 'none'}."
            )
    return {name: spec.check(given[name]) if name in given else spec.default for name, spec in known.items()}
