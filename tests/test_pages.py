"""Memory in pages of its own: any shape and dtype, nothing kept behind, no more held than what is filled."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromerge.benchmarks.memory import anonymous_bytes
from neuromerge.pages import LARGE, own_pages

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.int64]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 40), max_size=3).map(tuple) | st.just((LARGE // 8 + 3, 3)) | st.just((LARGE,)),
    dtype=st.sampled_from(DTYPES),
)
def test_zeros_of_any_shape_and_dtype(shape, dtype):
    found = own_pages(shape, dtype)
    assert (found.shape, found.dtype, found.is_contiguous()) == (torch.Size(shape), dtype, True)
    assert not found.any()
    found.fill_(1)
    assert bool((found == 1).all())
    assert found.data_ptr() % 64 == 0 or not found.numel()


HELD = """
import gc, sys
import torch
from neuromerge.benchmarks.memory import anonymous_bytes
from neuromerge.pages import own_pages
size, slack = int(sys.argv[1]), 1 << 18
before = anonymous_bytes()
found = own_pages((size,), torch.uint8).fill_(1)
view = found[: size // 2]
assert size <= anonymous_bytes() - before + slack
assert anonymous_bytes() - before < size + slack
del found
assert int(view.sum()) == size // 2
del view
gc.collect()
assert anonymous_bytes() - before < slack
"""


@pytest.mark.parametrize("size", [4 * LARGE, LARGE + 4096])
def test_it_holds_what_is_filled_and_gives_it_back(size):
    if not anonymous_bytes():
        pytest.skip("the system does not tell what a process holds")
    warm = "import torch; torch.ones(8, dtype=torch.uint8).sum()\n"  # in a process where nobody else allocates
    done = subprocess.run([sys.executable, "-c", warm + HELD, str(size)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_where_there_is_no_room_it_says_so():
    with pytest.raises(MemoryError):
        own_pages((1 << 60,), torch.float32)
