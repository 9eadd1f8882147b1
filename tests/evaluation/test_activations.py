"""The inputs of a linear map against hooks on open_clip's own model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuromerge.checkpoints.checkpoint import load_checkpoint
from neuromerge.errors import SettingError
from neuromerge.evaluation.activations import layer_inputs
from neuromerge.evaluation.towers import VisionModel
from tests.evaluation.networks import save_open_clip

PIXELS = torch.randn(5, 3, 24, 24, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hooks")
    return save_open_clip(folder), VisionModel.from_checkpoint(load_checkpoint(folder))


def hooked(theirs, module):
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    try:
        with torch.no_grad():
            theirs.encode_image(PIXELS)
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("number", [0, 1])
def test_inputs_equal_hooks(pair, number):
    theirs, ours = pair
    block = theirs.visual.transformer.resblocks[number]
    block.forward(torch.randn(1, 10, 32))  # leaves the fused fast path that hooks cannot see into unused
    for matrix, module in (("fc1", block.mlp.c_fc), ("fc2", block.mlp.c_proj), ("q", block.attn), ("v", block.attn)):
        expected = hooked(theirs, module)
        got = layer_inputs(ours, f"block {number}", matrix, PIXELS)
        np.testing.assert_allclose(got, expected[:, 0], atol=1e-5)
        every = layer_inputs(ours, f"block {number}", matrix, PIXELS, tokens="all")
        np.testing.assert_allclose(every, expected.flatten(0, 1), atol=1e-5)


def test_pre_activations_reproduce_the_network(pair):
    """W x + b of a map's inputs is the next thing the network computes."""
    theirs, ours = pair
    weights = ours.weights
    out = layer_inputs(ours, "block 1", "out", PIXELS) @ weights["vision.blocks.1.out.weight"].numpy().T
    x = hooked(theirs, theirs.visual.transformer.resblocks[1])[:, 0]
    stream = x.numpy() + out + weights["vision.blocks.1.out.bias"].numpy()
    hidden = layer_inputs(ours, "block 1", "fc2", PIXELS) @ weights["vision.blocks.1.fc2.weight"].numpy().T
    final = torch.from_numpy(stream + hidden + weights["vision.blocks.1.fc2.bias"].numpy())
    np.testing.assert_allclose(
        layer_inputs(ours, "head", "projection", PIXELS), theirs.visual.ln_post(final).detach(), atol=1e-5
    )
    projected = layer_inputs(ours, "head", "projection", PIXELS) @ weights["vision.head.projection"].numpy().T
    np.testing.assert_allclose(projected, ours.encode(PIXELS, normalised=False), atol=1e-5)


def test_patches_are_what_the_convolution_sees(pair):
    theirs, ours = pair
    got = layer_inputs(ours, "stem", "patch", PIXELS, tokens="all") @ ours.weights["vision.stem.patch.weight"].numpy().T
    with torch.no_grad():
        expected = theirs.visual.conv1(PIXELS).flatten(2).transpose(1, 2).flatten(0, 1)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert layer_inputs(ours, "stem", "patch", PIXELS).shape == (5, 192)


def test_a_parameter_names_its_own_map(pair):
    _, ours = pair
    for parameter in ours.parameters:
        if parameter.kind == "neurons":
            assert layer_inputs(ours, parameter, pixels=PIXELS).shape == (5, parameter.shape[1])
        else:
            with pytest.raises(SettingError, match="no linear map"):
                layer_inputs(ours, parameter, pixels=PIXELS)


@pytest.mark.parametrize(
    ("layer", "matrix"), [("block 9", "q"), ("block 0", "norm"), ("stem", "q"), ("x", "q"), ("block", "q")]
)
def test_unknown_maps_are_refused(pair, layer, matrix):
    with pytest.raises(SettingError, match="no linear map"):
        layer_inputs(pair[1], layer, matrix, PIXELS)
