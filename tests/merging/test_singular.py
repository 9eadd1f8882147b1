"""Singular vectors and polar factors of matrices that are large enough for float32 with a correction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from neuromerge.merging.singular import (
    leading_triplets,
    leading_triplets_outside,
    polar_factor,
    polar_factor_beside,
    split_triplets,
)

SIZE = 160
INDEX = torch.arange(1, SIZE + 1, dtype=torch.float64)
SPECTRA: dict[str, Callable[[], torch.Tensor]] = {
    "level": lambda: torch.linspace(1, 0.3, SIZE, dtype=torch.float64),
    "two decades": lambda: torch.logspace(0, -2, SIZE, dtype=torch.float64),
    "four decades": lambda: torch.logspace(0, -4, SIZE, dtype=torch.float64),
    "power law": lambda: 1 / INDEX,
    "one direction towers": lambda: torch.cat([torch.tensor([100.0], dtype=torch.float64), 1 / INDEX[1:].sqrt()]),
    "many weak": lambda: torch.where(INDEX > 100, 1.9e-2, 2.1e-2).index_fill_(0, torch.tensor(0), 1.0).double(),
    "no full rank": lambda: torch.where(INDEX > 130, 0.0, 1 / INDEX.sqrt()),
    "low rank": lambda: torch.where(INDEX > 8, 0.0, 1 / INDEX),
    "alike": lambda: torch.ones(SIZE, dtype=torch.float64),
}


def orthonormal(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64))[0]


def made_of(values: torch.Tensor, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A matrix with these singular values, but for rounding."""
    size = len(values)
    return (orthonormal(rows, size, 1) * values @ orthonormal(columns, size, 2).mT).to(dtype)


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, 400), (400, SIZE)])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_polar_factor_of_float32(shape: tuple[int, int], spectrum: str, scale: float) -> None:
    matrix = made_of(SPECTRA[spectrum](), *shape) * scale
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    alive = s > 1e-6 * s[0]
    got = polar_factor(matrix, torch.float32)
    assert got.dtype == torch.float32
    assert relative(got, u[:, alive] @ vh[alive]) <= 1e-5


@pytest.mark.parametrize("seed", range(5))
def test_polar_factor_of_a_square_matrix_of_noise(seed: int) -> None:
    """Its smallest singular value is a thousandth of the largest or less."""
    matrix = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    u, _, vh = torch.linalg.svd(matrix.double())
    assert relative(polar_factor(matrix, torch.float32), u @ vh) <= 2e-6


@pytest.mark.parametrize("size", [24, SIZE])
def test_singular_vectors_side_by_side_have_digits_that_their_matrix_had_not(size: int) -> None:
    """They come in float64: a direction that they share but for a few parts in a million is none of rounding."""
    values = torch.linspace(2, 0.1, size, dtype=torch.float64).index_fill_(0, torch.tensor(size - 1), 1e-6)
    u, v = orthonormal(size, size, 1), orthonormal(size, size, 2)
    assert relative(polar_factor(u * values @ v.mT, torch.float32), u @ v.mT) <= 1e-5


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, 400), (400, SIZE)])
@pytest.mark.parametrize("spectrum", [name for name in SPECTRA if name not in ("alike", "many weak")])
@pytest.mark.parametrize(("rank", "scale"), [(1, 1.0), (20, 1e-3), (40, 1e25), (40, 1e-25), (41, 1e25)])
def test_leading_triplets_of_float32(shape: tuple[int, int], spectrum: str, rank: int, scale: float) -> None:
    """The part of the matrix that they make up, since single vectors may turn into each other."""
    matrix = made_of(SPECTRA[spectrum](), *shape) * scale
    exact_u, exact_s, exact_vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    count = min(rank, int((exact_s > 1e-6 * exact_s[0]).sum()))
    u, s, v = leading_triplets(matrix, rank)
    assert len(s) == count
    assert relative(u * s @ v.mT, exact_u[:, :count] * exact_s[:count] @ exact_vh[:count]) <= 1e-5
    identity = torch.eye(count, dtype=torch.float64)
    torch.testing.assert_close(u.mT @ u, identity, rtol=0, atol=1e-5)
    torch.testing.assert_close(v.mT @ v, identity, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spectrum", ["alike", "many weak"])
def test_triplets_that_cannot_be_told_from_the_others(spectrum: str) -> None:
    """Which of the equal directions come is arbitrary; that they are singular directions is not."""
    matrix = made_of(SPECTRA[spectrum](), SIZE, SIZE)
    u, s, v = leading_triplets(matrix, 30)
    torch.testing.assert_close(matrix.double() @ v, u * s, rtol=0, atol=1e-6)
    torch.testing.assert_close(u.mT @ u, torch.eye(30, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_of_zeros_has_no_directions(dtype: torch.dtype) -> None:
    zeros = torch.zeros(SIZE, SIZE, dtype=dtype)
    assert not polar_factor(zeros, dtype).any()
    assert leading_triplets(zeros, 10)[1].numel() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", ["level", "no full rank"])
def test_split_triplets_and_what_is_left_fill_the_space(spectrum: str, dtype: torch.dtype) -> None:
    matrix = made_of(SPECTRA[spectrum](), SIZE, 200, dtype)
    (u, s, v), rest = split_triplets(matrix, 140)
    whole = torch.cat([u, rest], dim=1)
    torch.testing.assert_close(whole.mT @ whole, torch.eye(SIZE, dtype=torch.float64), rtol=0, atol=1e-9)
    exact_u, exact_s, exact_vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    count = len(s)
    assert count == (140 if spectrum == "level" else 130)
    assert relative(u * s @ v.mT, exact_u[:, :count] * exact_s[:count] @ exact_vh[:count]) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_triplets_outside_a_space(spectrum: str, dtype: torch.dtype) -> None:
    """Also where the space takes the strongest directions, and little or nothing is left."""
    matrix = made_of(SPECTRA[spectrum](), 400, SIZE, dtype) * 1e25
    exact = torch.linalg.svd(matrix.double(), full_matrices=False)[0]
    space = torch.linalg.qr(torch.cat([exact[:, :30], orthonormal(400, 90, 3)], dim=1))[0]
    u, s, v = leading_triplets_outside(matrix, space, 12)
    outside = matrix.double() - space @ (space.mT @ matrix.double())
    scale = float(torch.linalg.matrix_norm(matrix.double(), 2))
    torch.testing.assert_close(outside @ v, u * s, rtol=0, atol=1e-6 * scale)
    torch.testing.assert_close(s, torch.linalg.svdvals(outside)[: len(s)], rtol=1e-4, atol=1e-6 * scale)
    torch.testing.assert_close(v.mT @ v, torch.eye(len(s), dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "shared", "own"), [(200, 120, 40), (SIZE, 120, 40), (200, 40, 120), (200, 150, 0)])
@pytest.mark.parametrize("inside", [0.0, 0.5, 1.0])
def test_polar_factor_beside_a_space(rows: int, shared: int, own: int, inside: float, dtype: torch.dtype) -> None:
    """`more` is far from, half in, or all in the space; in the last case what it repeats counts half for each."""
    space, more = orthonormal(rows, shared, 1), orthonormal(rows, own, 2)
    if inside:
        more = inside * (space @ (space.mT @ more)) + (1 - inside) * more
    whole = torch.cat([space, more], dim=1)
    u, s, vh = torch.linalg.svd(whole, full_matrices=False)
    alive = s > 1e-6 * s[0]
    got = polar_factor_beside(space, more, dtype)
    assert got.dtype == dtype
    assert relative(got, u[:, alive] @ vh[alive]) <= {torch.float32: 1e-5, torch.float64: 1e-9}[dtype]
