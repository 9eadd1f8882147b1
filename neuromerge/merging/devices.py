"""Where arithmetic happens: the devices of this machine by name, told apart from those it lacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neuromerge.errors import SettingError, quoted

_WITHOUT_VALUES = frozenset({"meta"})
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stride:
    """How much is worked on at a time: what fits a core's cache, or what keeps thousands of lanes busy.

    Attributes:
        chunk: entries over all tasks in one chunk of rows.
        wide: entries of which float64 copies are made at a time.
        sums: entries added up in the working dtype before float64 takes over; None adds up in float64.
        threads: how many chunks are worked on at a time; as many as there are cores when None.
    """

    chunk: int
    wide: int
    sums: int | None
    threads: int | None


_CORES = Stride(chunk=1 << 21, wide=1 << 18, sums=1 << 14, threads=None)
"""8 MiB a chunk in float32. With a quarter of that the threads wait for each other."""
_ACCELERATOR = Stride(chunk=1 << 27, wide=1 << 26, sums=None, threads=1)
"""Whole matrices, one after the other: starting a small operation takes longer than the operation."""
_ROOM = 0.6  # of the free memory of an accelerator: the rest is for what is computed


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
        except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError):
            raise SettingError(
                f"This machine, or the torch installed on it, has no device {quoted(str(name))}. Choose cpu."
            ) from None
    return device


def stride(device: torch.device) -> Stride:
    """How much to work on at a time on this device."""
    return _CORES if device.type == "cpu" else _ACCELERATOR


def room(device: torch.device) -> int:
    """Bytes that weights may take on an accelerator while they are merged; 0 where nobody can say."""
    return int(_ROOM * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
