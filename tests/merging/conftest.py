"""Both ways through the weights: torch, and the compiled kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from neuromerge.merging import kernels


@pytest.fixture(scope="session")
def compiled() -> None:
    """The kernels of both working dtypes, compiled where the cache folder has none. Skips without numba."""
    pytest.importorskip("numba")
    for dtype in kernels.DTYPES:
        assert kernels.load(dtype)


@pytest.fixture(params=["torch", "kernels"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once on each way; asks for the kernels only where they are wanted."""
    if request.param == "kernels":
        request.getfixturevalue("compiled")
    with kernels.switched(request.param == "kernels"):
        yield request.param
