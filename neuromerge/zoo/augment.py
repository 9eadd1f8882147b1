"""Augmentation of a whole batch at once, so that it costs a few percent of a training step."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional

from neuromerge.zoo.model import IMAGE, MEAN, STD


def compose(rgba: torch.Tensor, ink: torch.Tensor, random: torch.Generator, strength: float = 1.0) -> torch.Tensor:
    """Draw a batch of stored pictures as the model sees them in training.

    `rgba` is uint8 (B, 64, 64, 4); `ink` is bool (B,), true where the colour of the drawing carries no meaning
    and may be replaced. Returns normalised float32 (B, 3, 48, 48): randomly scaled, moved, rotated a little,
    recoloured, on a random background now and then, as the tests use white. `strength` in [0, 1] scales all of it: the
    base, which sees each picture few times, learns faster from little; experts need more.
    """
    batch, device = len(rgba), rgba.device

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(*shape, generator=random).to(device) * (high - low) + low

    pixels = rgba.permute(0, 3, 1, 2).float() / 255
    colour, alpha = pixels[:, :3], pixels[:, 3:]
    plain = uniform(batch) >= 0.5 * strength
    background = uniform(batch, 3, 1, 1)
    background = torch.where(plain[:, None, None, None], torch.ones_like(background), background)
    # Ink is dark on a light ground or light on a dark one, never invisible; black on white a third of the time.
    bright = background.mean(dim=(1, 2, 3), keepdim=True) > 0.5
    stroke = torch.where(bright, uniform(batch, 3, 1, 1, high=0.45), uniform(batch, 3, 1, 1, low=0.6))
    stroke = torch.where(
        (uniform(batch) >= 0.5 * strength)[:, None, None, None] & bright, torch.zeros_like(stroke), stroke
    )
    colour = torch.where(ink[:, None, None, None], stroke.expand_as(colour), colour)
    colour = _jitter(colour, uniform, strength)
    # Premultiplied, and warped together with alpha, so that edges blend into whatever lies behind.
    layers = torch.cat([colour * alpha, alpha], dim=1)
    angle = strength * uniform(batch, low=-0.26, high=0.26)
    scale = 1 + strength * uniform(batch, low=-0.15, high=0.3)
    stretch = torch.exp(strength * uniform(batch, low=-0.14, high=0.14))
    shift = strength * uniform(batch, 2, low=-0.13, high=0.13)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    grid_matrix = torch.stack(
        [
            torch.stack([cosine * stretch, -sine, shift[:, 0]], dim=1),
            torch.stack([sine, cosine / stretch, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(grid_matrix, [batch, 4, IMAGE, IMAGE], align_corners=False)
    layers = functional.grid_sample(layers, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    image = layers[:, :3] + background * (1 - layers[:, 3:])
    return normalise(image)


def _jitter(colour: torch.Tensor, uniform: Callable[..., torch.Tensor], strength: float) -> torch.Tensor:
    """Change brightness, contrast and saturation of float32 (B, 3, H, W) a little, per picture."""
    batch = len(colour)
    grey = colour.mean(dim=1, keepdim=True)
    colour = grey + (colour - grey) * (1 + strength * uniform(batch, 1, 1, 1, low=-0.4, high=0.4))
    colour = (colour - 0.5) * (1 + strength * uniform(batch, 1, 1, 1, low=-0.25, high=0.2)) + 0.5
    return (colour + strength * uniform(batch, 3, 1, 1, low=-0.1, high=0.1)).clamp(0, 1)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Map float (B, 3, H, W) in [0, 1] to what the model takes."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / std


def as_tested(images: torch.Tensor) -> torch.Tensor:
    """Normalise uint8 (B, 48, 48, 3) pictures exactly as open_clip's preprocessing does."""
    return normalise(images.permute(0, 3, 1, 2).float() / 255)
