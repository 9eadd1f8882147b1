"""Nobody waits for the compiler, and nobody needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MERGE = """
import torch, neuromerge
base = {"a.weight": torch.arange(24.0).view(4, 6)}
experts = [{"a.weight": base["a.weight"] + k} for k in (1.0, 3.0)]
merged = neuromerge.merge(base, experts, "average").state_dict["a.weight"]
assert torch.equal(merged, base["a.weight"] + 2)
"""


def run(code: str, cache: Path, **variables: str) -> str:
    environment = {**os.environ, "NEUROMERGE_CACHE": str(cache), "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_and_a_small_merge_leave_numba_alone(tmp_path):
    assert run(MERGE + "import sys; print('numba' in sys.modules)", tmp_path).split() == ["False"]
    assert not list(tmp_path.rglob("*.nbc"))


def test_without_numba_torch_does_the_work(tmp_path):
    code = """
import sys
sys.modules["numba"] = None
from neuromerge.merging import kernels
assert kernels.load_in_background() is None
assert not kernels.load() and not kernels.prepare(1 << 40) and not kernels.in_use()
"""
    run(code + MERGE, tmp_path)


def test_they_can_be_turned_off(tmp_path):
    code = "from neuromerge.merging import kernels\nassert not kernels.prepare(1 << 40) and not kernels.load()\n"
    run(code + MERGE, tmp_path, NEUROMERGE_KERNELS="off")


def test_a_compiler_that_fails_is_told_and_torch_does_the_work(tmp_path):
    code = """
import logging
from neuromerge.merging import kernels
from neuromerge.merging.kernels import loading
def fails(place, dtype): raise RuntimeError("no such processor")
loading.compile_into = fails
assert not kernels.load() and not kernels.in_use() and kernels.load_in_background() is None
"""
    run(code + MERGE, tmp_path)


@pytest.mark.slow
def test_an_empty_cache_keeps_nobody_waiting(tmp_path):
    pytest.importorskip("numba")
    code = (
        """
import sys, time
from neuromerge.merging import kernels
thread = kernels.load_in_background()
assert thread is not None and not kernels.in_use()
"""
        + MERGE
        + """
assert not kernels.in_use() and "numba" not in sys.modules  # answered while another process compiles
thread.join()
assert kernels.in_use()
"""
        + MERGE
    )
    run(code, tmp_path)
    kept = list(tmp_path.rglob("*.nbc"))
    assert kept
    # The next process finds them, and compiles nothing.
    run("from neuromerge.merging import kernels\nassert kernels.prepare(1 << 28)\n" + MERGE, tmp_path)
    assert sorted(tmp_path.rglob("*.nbc")) == sorted(kept)


def test_a_cache_that_cannot_be_written_is_replaced_for_this_process(tmp_path):
    place = tmp_path / "file"
    place.write_text("no folder")
    code = "from neuromerge.merging.kernels import loading\nprint(loading.folder())\nassert loading.folder().is_dir()\n"
    folder = Path(run(code, place).strip())
    assert not folder.exists()  # and is gone with it
