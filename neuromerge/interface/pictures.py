"""Pictures that visitors hand over, read within the limits of the deployment."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from neuromerge.checkpoints.sources import expanded
from neuromerge.deployment import Limits, deployment
from neuromerge.errors import LimitError, SettingError
from neuromerge.evaluation import pictures
from neuromerge.evaluation.archives import ArchiveLimits

ENTRIES = 20_000
"""Files and folders that an archive may hold."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def read_picture(source: object, limits: Limits) -> Image.Image:
    """The picture that was uploaded to a path, or that these bytes are, as RGB, upright.

    Raises SettingError when there is none or it is not a picture, LimitError when it is too large.
    """
    if not isinstance(source, str | bytes) or not source:
        raise SettingError("Choose a picture first: upload one, paste one, take one, or click one of the samples.")
    place = source if isinstance(source, bytes) else Path(source)
    size = len(place) if isinstance(place, bytes) else place.stat().st_size if place.is_file() else 0
    if size > limits.max_upload_bytes:
        raise LimitError(
            f"The file has {size / 2**20:.1f} MB; at most {limits.max_upload_bytes / 2**20:.0f} MB are possible."
        )
    return pictures.read_picture(place, "The picture", formats=FORMATS, most_pixels=limits.max_pixels)


MAX_PATH = 1_024
"""Characters of a folder's path that may be typed."""


def archive_limits(limits: Limits) -> ArchiveLimits:
    """What an archive of a visitor's may hold; pictures hardly shrink, so twice its bytes are enough unpacked."""
    most = limits.max_archive_bytes
    return ArchiveLimits(archive_bytes=most, entries=ENTRIES, total_bytes=2 * most, entry_bytes=most)


def own_source(archive: object, folder: object) -> str:
    """The place of a visitor's pictures: an uploaded archive, or else a path on this machine where one may be named.

    Raises SettingError where neither is given, LimitError where it is not allowed.
    """
    deployed = deployment()
    if not deployed.own_pictures:
        raise LimitError("Archives of pictures are not taken here. Run the app on your own machine for that.")
    if isinstance(archive, str) and archive:
        return archive
    if isinstance(folder, str) and folder.strip():
        if not deployed.allow_local:
            raise LimitError("Folders of this machine cannot be named on this public deployment. Add a zip archive.")
        return str(expanded(folder.strip()))
    raise SettingError("Add a zip archive of pictures first.")
