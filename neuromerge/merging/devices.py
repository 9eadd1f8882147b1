"""Where arithmetic happens: the devices of this machine by name, told apart from those it lacks."""

from __future__ import annotations

import torch

from neuromerge.errors import SettingError, quoted

_WITHOUT_VALUES = frozenset({"meta"})


def find_device(name: str | torch.device) -> torch.device:
    """The device of that name, once it has shown that it can hold a tensor and give it back.

    Raises SettingError for a name that is none, and for a device that this machine or this torch lacks.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError):
        raise SettingError(f"There is no device {quoted(name)}. Choose cpu, cuda, cuda:1 or mps.") from None
    if device.type in _WITHOUT_VALUES:
        raise SettingError(f"The device {quoted(str(name))} holds no values. Choose cpu or cuda.")
    if device.type != "cpu":
        try:
            torch.zeros(1, device=device).cpu()
            if (
                device.type == "cuda"
            ):  # Its linear algebra loads at the first use, and breaks where two threads are first.
                torch.linalg.eigh(torch.ones(1, 1, device=device))
        except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError):
            raise SettingError(
                f"This machine, or the torch installed on it, has no device {quoted(str(name))}. Choose cpu."
            ) from None
    return device
