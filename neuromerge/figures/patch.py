"""Changes laid over a figure. The browser does the same (``static/patch.js``); a test holds the two equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_patch(target: Any, change: Any) -> Any:
    """`change` laid over `target` as in RFC 7396: dicts key by key, None removes, anything else replaces."""
    if not isinstance(change, Mapping):
        return change
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result
