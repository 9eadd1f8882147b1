"""Pictures that visitors hand over, read within the limits of the deployment."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from neuromerge.deployment import Limits
from neuromerge.errors import LimitError, SettingError
from neuromerge.evaluation import pictures

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def read_picture(path: object, limits: Limits) -> Image.Image:
    """The uploaded picture as RGB, upright.

    Raises SettingError when there is none or it is not a picture, LimitError when it is too large.
    """
    if not isinstance(path, str) or not path:
        raise SettingError("Choose a picture first: upload one, paste one, take one, or click one of the samples.")
    size = Path(path).stat().st_size if Path(path).is_file() else 0
    if size > limits.max_upload_bytes:
        raise LimitError(
            f"The file has {size / 2**20:.1f} MB; at most {limits.max_upload_bytes / 2**20:.0f} MB are possible."
        )
    return pictures.read_picture(Path(path), "The picture", formats=FORMATS, most_pixels=limits.max_pixels)
