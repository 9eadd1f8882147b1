"""Drift against plain forward passes and plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuromerge.checkpoints.checkpoint import load_checkpoint
from neuromerge.evaluation.features import token_drift
from neuromerge.evaluation.towers import VisionModel
from tests.evaluation.networks import save_open_clip


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    theirs = save_open_clip(folder)
    return VisionModel.from_checkpoint(load_checkpoint(folder)), theirs


@pytest.mark.parametrize("count", [1, 7, 40])
def test_class_tokens_are_those_of_a_plain_forward_pass(networks, count):
    ours, theirs = networks
    pixels = torch.randn(count, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    seen = []
    hooks = [
        block.register_forward_hook(lambda module, inputs, out: seen.append(out.clone()))
        for block in theirs.visual.transformer.resblocks
    ]
    with torch.no_grad():
        theirs.encode_image(pixels)
    for hook in hooks:
        hook.remove()
    expected = torch.stack([out[:, 0] if out.shape[0] == count else out[0] for out in seen], dim=1)
    embeddings, tokens = ours.encode_blocks(pixels)
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=0)
    assert torch.equal(embeddings, ours.encode(pixels))
    assert torch.equal(ours.encode_blocks(pixels, normalised=False)[0], ours.encode(pixels, normalised=False))


def test_without_pictures_there_are_no_tokens(networks):
    ours, _ = networks
    embeddings, tokens = ours.encode_blocks(torch.empty((0, 3, 24, 24)))
    assert embeddings.shape == (0, ours.dimensions)
    assert tokens.shape[1:] == (len(ours.block_layers), ours.width)
    far, common = token_drift(tokens.numpy(), tokens.numpy())
    assert np.isnan(far).all()
    assert np.isnan(common).all()


def test_blocks_are_named_as_layers(networks):
    ours, _ = networks
    assert ours.block_layers == tuple(f"block {number}" for number in range(len(ours.block_layers)))


def test_drift_picture_by_picture():
    random = np.random.default_rng(0)
    merged, expert = random.normal(size=(2, 9, 3, 5))
    far, common = token_drift(merged, expert)
    for block in range(3):
        cosines = [
            a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for a, b in zip(merged[:, block], expert[:, block], strict=True)
        ]
        assert far[block] == pytest.approx(1 - sum(cosines) / 9)
        differences = merged[:, block] - expert[:, block]
        mean = differences.mean(0)
        assert common[block] == pytest.approx(mean @ mean / np.mean([d @ d for d in differences]))


def test_the_same_shift_on_every_picture_is_common_and_none_is_no_drift():
    random = np.random.default_rng(1)
    expert = random.normal(size=(20, 2, 4))
    far, common = token_drift(expert + random.normal(size=(1, 2, 4)), expert)
    np.testing.assert_allclose(common, 1.0)
    assert (far > 0).all()
    far, common = token_drift(expert, expert)
    np.testing.assert_allclose(far, 0.0, atol=1e-12)
    assert np.isnan(common).all()
    far, _ = token_drift(-expert, expert)
    np.testing.assert_allclose(far, 2.0)
