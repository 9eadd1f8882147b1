"""Blocks are worked on in any thread, and come back in order, whole or with the error."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.chunks import Scratch, as_they_are, map_chunks, merge_units, row_chunks


def parameter(name: str, rows: int, columns: int = 4, kind: str = "neurons") -> Parameter:
    return Parameter(name, name, "model", "stem", None, "other", kind, (rows, columns), 0, 0, columns)


PARAMETERS = [parameter("a", 7), parameter("empty", 0), parameter("b", 1), parameter("c", 12)]


def by_two(of: Parameter):
    return [(start, min(start + 2, of.shape[0])) for start in range(0, of.shape[0], 2)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_whichever_block_is_done_first(threads):
    def work(of, start, stop):
        time.sleep(0.002 * (start % 3))
        return of.name, start, stop

    found = dict_of(map_chunks(work, PARAMETERS, by_two, as_they_are, threads))
    assert found == {p.name: [(p.name, *span) for span in by_two(p)] for p in PARAMETERS}
    assert list(found) == ["a", "empty", "b", "c"]


def dict_of(pairs):
    return {of.name: results for of, results in pairs}


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_block_or_at_the_end_reaches_the_caller_and_the_next_pass_works(threads):
    def bad_block(of, start, stop):
        if (of.name, start) == ("c", 4):
            raise ValueError("block")

    def bad_end(of, results):
        raise ValueError("end")

    with pytest.raises(ValueError, match="block"):
        list(map_chunks(bad_block, PARAMETERS, by_two, as_they_are, threads))
    with pytest.raises(ValueError, match="end"):
        list(map_chunks(lambda *_: None, PARAMETERS, by_two, bad_end, threads))
    assert len(dict_of(map_chunks(lambda *_: 1, PARAMETERS, by_two, as_they_are, threads))) == 4


def test_a_caller_that_stops_early_leaves_blocks_undone():
    done: list[int] = []

    def work(of, start, stop):
        time.sleep(0.001)
        done.append(start)

    pass_ = map_chunks(work, [parameter("a", 2), parameter("b", 400)], by_two, as_they_are, 2)
    next(pass_)
    pass_.close()
    time.sleep(0.05)
    assert len(done) < 20


def test_blocks_have_one_torch_thread_and_nobody_else_loses_theirs():
    before = torch.get_num_threads()
    inside = dict_of(map_chunks(lambda *_: torch.get_num_threads(), PARAMETERS, by_two, as_they_are, 3))
    assert {count for counts in inside.values() for count in counts} == {1}
    assert torch.get_num_threads() == before
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before]


def test_pointwise_parameters_and_whole_matrices_are_not_split():
    wide = parameter("wide", 1000, 100_000)
    assert len(list(row_chunks(wide, 8))) > 1
    assert list(merge_units(parameter("p", 1000, 100_000, "pointwise"), 8)) == [(0, 1000)]
    assert list(merge_units(wide, 8, by_rows=False)) == [(0, 1000)]
    spans = list(merge_units(wide, 8))
    assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (0, 1000)
    sizes = [stop - start for start, stop in spans]
    assert max(sizes) - min(sizes) < len(spans), "a last chunk of a few rows would leave the other cores idle"


def test_scratch_is_a_threads_own():
    scratch, cpu = Scratch(), torch.device("cpu")
    mine = scratch.take((2, 3), torch.float32, cpu)
    assert scratch.take((6,), torch.float32, cpu).data_ptr() == mine.data_ptr()
    other: list[int] = []
    thread = threading.Thread(target=lambda: other.append(scratch.take((6,), torch.float32, cpu).data_ptr()))
    thread.start()
    thread.join()
    assert other != [mine.data_ptr()]
    assert scratch.take((3,), torch.float64, cpu).dtype == torch.float64


def test_small_parameters_are_handed_over_together_and_large_ones_alone():
    seen: dict[str, list[str]] = {}

    def work(of, start, stop):
        seen.setdefault(threading.current_thread().name, []).append(of.name)
        time.sleep(0.003)
        return of.name

    def one(of: Parameter):
        return [(0, of.shape[0])] if of.shape[0] else []

    small = [parameter(f"small {n}", 2) for n in range(20)]
    large = [parameter(f"large {n}", 10_000) for n in range(6)]
    found = dict_of(map_chunks(work, [*small, *large], one, as_they_are, 2))
    assert list(found) == [p.name for p in (*small, *large)]
    assert all(results == [name] for name, results in found.items())
    together = next(names for names in seen.values() if "small 0" in names)
    assert together[:21] == [*(p.name for p in small), "large 0"]  # one thread: the others take the large ones
    assert len(seen) == 2
