"""Keeping splits apart: digests for equal sources, thumbnails and perceptual hashes for look-alikes.

Two pictures count as near-duplicates when their 16 x 16 colour thumbnails on white differ by less than
`THUMBNAIL_RMS` (root mean square, values 0 to 1), or when their 64-bit perceptual hashes differ in at most
`HASH_BITS` bits and their thumbnails by less than `HASH_RMS`. The hash alone would call every tricolour the
same flag, because it looks at brightness only.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

THUMBNAIL_RMS = 0.05
HASH_BITS = 2
HASH_RMS = 0.10
STRICT = 2
"""By how much the two limits of the hash rule grow between validation and test, whose pictures both ship."""
_CHUNK = 512


def share(identity: str, salt: str = "") -> float:
    """A fixed number in [0, 1) for a name: how pictures, authors and subjects are dealt to splits."""
    from neuromerge.zoo.sources import digest

    return int(digest(salt, identity)[:8], 16) / 2**32


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Colour thumbnails of uint8 (N, H, W, 3): float32 (N, 768) in [0, 1]."""
    small = [np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX)) for image in images]
    return np.asarray(small, dtype=np.float32).reshape(len(images), -1) / 255


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """64-bit perceptual hashes of uint8 (N, H, W, 3): which of the 8 x 8 lowest cosine frequencies are high."""
    n = 32
    k = np.arange(8)[:, None]
    cosines = np.cos(np.pi * (2 * np.arange(n)[None] + 1) * k / (2 * n)).astype(np.float32)
    grey = np.asarray(
        [np.asarray(Image.fromarray(i).convert("L").resize((n, n), Image.Resampling.BOX)) for i in images],
        dtype=np.float32,
    ).reshape(-1, n, n)
    frequencies = (cosines @ grey @ cosines.T).reshape(len(images), 64)
    return frequencies > np.median(frequencies, axis=1, keepdims=True)


def near_duplicates(images: np.ndarray, others: np.ndarray, strict: bool = False) -> np.ndarray:
    """Which of `images` have a near-duplicate among `others` (both uint8 (N, H, W, 3)): bool (N,)."""
    if not len(images) or not len(others):
        return np.zeros(len(images), dtype=bool)
    a, b = thumbnails(images), thumbnails(others)
    ha, hb = perceptual_hashes(images).astype(np.float32), perceptual_hashes(others).astype(np.float32)
    found = np.zeros(len(images), dtype=bool)
    factor = STRICT if strict else 1
    b_squared, hb_ones = (b**2).sum(1), hb.sum(1)
    for start in range(0, len(a), _CHUNK):
        part = slice(start, start + _CHUNK)
        squared = (a[part] ** 2).sum(1)[:, None] + b_squared[None] - 2 * a[part] @ b.T
        rms = np.sqrt(np.maximum(squared, 0) / a.shape[1])
        bits = ha[part].sum(1)[:, None] + hb_ones[None] - 2 * ha[part] @ hb.T
        found[part] = ((rms < THUMBNAIL_RMS) | ((bits <= factor * HASH_BITS) & (rms < factor * HASH_RMS))).any(1)
    return found
