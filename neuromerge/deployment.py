"""How this process is deployed: every setting that comes from the environment, read and checked in one place.

Each field of `Deployment` is the variable ``NEUROMERGE_<FIELD>``. Whether strangers use the page
(`public`) is decided here and nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any

from neuromerge.errors import SettingError, quoted

_YES = frozenset({"1", "true", "yes", "on", "y", "t"})
_NO = frozenset({"0", "false", "no", "off", "n", "f"})
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_LARGEST = 2**50
_GRADIO_FILES = "GRADIO_TEMP_DIR"
_SITES = re.compile(r"|'none'|(?:'self'|[\w.:/*-]+)(?: (?:'self'|[\w.:/*-]+))*", re.ASCII)
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Limits:
    """What one visitor may send and how many may wait. Each field is the variable ``NEUROMERGE_<FIELD>``."""

    max_upload_bytes: int = 8 * 2**20  # one uploaded picture
    max_body_bytes: int = 12 * 2**20  # any one request: a picture in base64 is a third larger than its file
    max_archive_bytes: int = 64 * 2**20  # one uploaded zip archive of pictures
    max_checkpoint_bytes: int = 2 * 2**30  # one uploaded expert
    own_checkpoints_per_page: int = 8  # uploaded experts of one page
    own_checkpoint_bytes: int = 4 * 2**30  # uploaded experts of all pages together
    max_pixels: int = 16_000_000  # width x height of an uploaded picture
    max_classes: int = 100  # class names typed for one picture
    max_class_length: int = 80  # characters of one class name
    max_prompt_length: int = 200  # characters of the prompt template
    max_trials: int = 200  # trials of one search
    queue_size: int = 256  # events that may wait; more are refused with a message
    events_per_page: int = 24  # events of one page that wait or run
    events_per_second: int = 60  # of one address on average (a dragged slider makes 25); more wait, then are refused
    light_workers: int = 8  # moved controls followed at the same time: figures and quick accuracy
    heavy_workers: int = 4  # galleries, tabs that are costly to draw and exports at the same time
    settling_workers: int = 2  # whole validation splits at the same time
    settle_queue: int = 8  # whole splits that may wait; with more, who comes to rest keeps the quick look
    fill_queue: int = 2  # curves and confusion matrices that may wait; with more, they stay as far as they are
    searches: int = 2  # maps and searches at the same time
    sessions: int = 256  # pages remembered at the same time
    session_seconds: int = 3600  # how long an idle page is remembered
    exports_per_page: int = 2  # exported files of one page; a new one takes the oldest one's place
    export_bytes: int = 4 * 2**30  # all exported files together
    temporary_bytes: int = 6 * 2**30  # uploads and exports together
    export_seconds: int = 900  # how long an exported file stays

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Limits:
        """The limits that these variables describe; ``os.environ`` when None.

        Raises SettingError for a variable that is not a positive whole number.
        """
        given = os.environ if environment is None else environment
        return cls(**{f.name: whole_number(given, variable(f.name), getattr(cls, f.name), 1) for f in fields(cls)})


@dataclass(frozen=True)
class Deployment:
    """The settings of one process. Every field is the environment variable ``NEUROMERGE_<FIELD>``.

    `public` and `offline` also follow what the host says: ``SPACE_ID`` is set on a Hugging Face Space,
    ``HF_HUB_OFFLINE`` is the Hub library's own switch.
    """

    public: bool = False
    """Strangers use the page: nothing but safetensors, no local folders."""
    allow_local: bool = True
    """Families of the user's own may be opened from folders of this machine. Follows `public` unless said."""
    own_pictures: bool = True
    """Visitors may have a zip archive of their own pictures evaluated."""
    own_checkpoints: bool = True
    """Visitors may bring experts of their own, as safetensors files. Follows `public` unless said."""
    safetensors_only: bool = False
    """PyTorch files are refused. Always so where `public` is set."""
    offline: bool = False
    """Nothing is fetched from the Hub (``HF_HUB_OFFLINE``)."""
    assets: Path = Path(__file__).resolve().parents[1] / "assets"
    """Folder of the bundled models."""
    families: tuple[Path, ...] = ()
    """Folders of the user's own: families, or registry files. Separated as in PATH."""
    prefetch: tuple[str, ...] = ()
    """Families that are fetched from the Hub while the bundled one already serves; commas between."""
    temporary: Path | None = None
    """Folder for uploads and exports (`GRADIO_TEMP_DIR` unless said); the system's temporary folder when None."""
    cache: Path = Path()
    """Where fetched pictures and slow text heads are kept."""
    datasets_server: str = "https://datasets-server.huggingface.co"
    """The dataset viewer that sample pictures come from."""
    cache_bytes: int = 0
    """Bound of the process-wide cache of task vectors and merges; 0: 768M, up to 3G where large families need it."""
    pixel_cache_mb: int = 400
    """Bound of the cache of sample images, in millions of bytes."""
    threads: int = 0
    """Threads of the arithmetic; 0: the cores, at most 8."""
    workers: int = 0
    """Heavy steps at the same time; 0: one for every four cores."""
    kernels: bool = True
    """Passes over weights are compiled for this machine's processor where that pays; off: torch alone."""
    frame_ancestors: str = ""
    """Sites that may show the page in a frame, as in ``Content-Security-Policy``; empty: every site, see README."""
    log_level: str = "warning"
    """What the server logs, from this level on: debug, info (a line for every request), warning or error."""
    limits: Limits = Limits()
    """What one visitor may send and how many may wait."""

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= 64:
            raise SettingError(f"The environment variable NEUROMERGE_WORKERS must be from 1 to 64, not {self.workers}.")
        if self.log_level not in LOG_LEVELS:
            levels = ", ".join(LOG_LEVELS)
            raise SettingError(f"NEUROMERGE_LOG_LEVEL must be one of {levels}, not {quoted(self.log_level)}.")
        if not _SITES.fullmatch(self.frame_ancestors):
            raise SettingError(
                "NEUROMERGE_FRAME_ANCESTORS must be 'none', or 'self' and sites such as https://huggingface.co with "
                f"blanks between, not {quoted(self.frame_ancestors)}."
            )

    @property
    def pickles_allowed(self) -> bool:
        """Whether PyTorch files may be read. They are read as data; nothing in them runs."""
        return not (self.public or self.safetensors_only)

    @property
    def largest_upload(self) -> int:
        """Bytes that one uploaded file may have, whatever it is; each kind has its own bound beside."""
        limits = self.limits
        archive = limits.max_archive_bytes if self.own_pictures else 0
        return max(limits.max_upload_bytes, archive, limits.max_checkpoint_bytes if self.own_checkpoints else 0)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Deployment:
        """The deployment that these variables describe; ``os.environ`` when None.

        Raises SettingError naming the variable and what it may be, where one cannot be understood.
        """
        environment = os.environ if environment is None else environment
        public = boolean(environment, "NEUROMERGE_PUBLIC", bool(environment.get("SPACE_ID", "").strip()))
        given: dict[str, Any] = {
            "public": public,
            "allow_local": boolean(environment, "NEUROMERGE_ALLOW_LOCAL", not public),
            "own_pictures": boolean(environment, "NEUROMERGE_OWN_PICTURES", True),
            "own_checkpoints": boolean(environment, "NEUROMERGE_OWN_CHECKPOINTS", not public),
            "safetensors_only": boolean(environment, "NEUROMERGE_SAFETENSORS_ONLY", False),
            "offline": boolean(environment, "HF_HUB_OFFLINE", False),
            "kernels": boolean(environment, "NEUROMERGE_KERNELS", True),
            "prefetch": _names(environment.get("NEUROMERGE_PREFETCH", "")),
            "families": _paths(environment.get("NEUROMERGE_FAMILIES", "")),
            "cache": _cache_folder(environment),
            "limits": Limits.from_environment(environment),
        }
        if environment.get("NEUROMERGE_LOG_LEVEL", "").strip():
            given["log_level"] = environment["NEUROMERGE_LOG_LEVEL"].strip().lower()
        given["frame_ancestors"] = " ".join(environment.get("NEUROMERGE_FRAME_ANCESTORS", "").split())
        if temporary := environment.get("NEUROMERGE_TEMPORARY") or environment.get(_GRADIO_FILES):
            given["temporary"] = Path(temporary).expanduser()
        if environment.get("NEUROMERGE_ASSETS"):
            given["assets"] = Path(environment["NEUROMERGE_ASSETS"]).expanduser()
        if environment.get("NEUROMERGE_DATASETS_SERVER"):
            given["datasets_server"] = environment["NEUROMERGE_DATASETS_SERVER"].rstrip("/")
        for name, read in (
            ("cache_bytes", number_of_bytes),
            ("pixel_cache_mb", whole_number),
            ("threads", whole_number),
            ("workers", whole_number),
        ):
            given[name] = read(environment, variable(name), _default(cls, name))
        return cls(**given)


def deployment() -> Deployment:
    """How this process is deployed, as its environment says now. Raises SettingError for a word it cannot read."""
    return Deployment.from_environment()


def inherited(**changes: str) -> dict[str, str]:
    """The environment for a process of our own: this one's, with some variables changed."""
    return {**os.environ, **changes}


def without_statistics() -> None:
    """Before the page's queue is made: for a dashboard that is off, Gradio would sum up all recent events after each
    one, which takes 20 ms of a processor each time, and keep ten thousand of them.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")


def keep_files_in(folder: Path) -> None:
    """Let Gradio keep uploads and exports in that folder; it asks where components are made."""
    os.environ[_GRADIO_FILES] = str(folder)


def variable(field: str) -> str:
    """The environment variable of a field of `Deployment`, or of a limit of the page."""
    return f"NEUROMERGE_{field.upper()}"


def boolean(environment: Mapping[str, str], name: str, otherwise: bool) -> bool:
    """The variable `name` as yes or no; `otherwise` where it is empty. Raises SettingError for any other word."""
    told = environment.get(name, "").strip().lower()
    if not told:
        return otherwise
    if told in _YES:
        return True
    if told in _NO:
        return False
    raise SettingError(
        f"The environment variable {name} must be yes or no (1 or 0, true or false), not {quoted(told)}."
    )


def whole_number(environment: Mapping[str, str], name: str, otherwise: int, least: int = 0) -> int:
    """The variable `name` as a whole number from `least`; `otherwise` where it is empty. Raises SettingError."""
    told = environment.get(name, "").strip()
    if not told:
        return otherwise
    if not (told.isascii() and told.isdigit()) or len(told) > 18 or not least <= int(told) <= _LARGEST:
        what = "a positive whole number" if least else "a whole number"
        raise SettingError(f"The environment variable {name} must be {what}, not {quoted(told)}.")
    return int(told)


def number_of_bytes(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    """The variable `name` as bytes: digits, or digits with K, M or G (powers of 1024). Raises SettingError."""
    told = environment.get(name, "").strip()
    if not told:
        return otherwise
    digits, unit = (told[:-1], told[-1].upper()) if told[-1].isalpha() else (told, "")
    if unit not in _UNITS or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise SettingError(f"The environment variable {name} must be a number of bytes such as 2G, not {quoted(told)}.")
    return int(digits) * _UNITS[unit]


def _paths(told: str) -> tuple[Path, ...]:
    return tuple(Path(part).expanduser() for part in told.split(os.pathsep) if part)


def _names(told: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in told.split(",") if name.strip()))


def _cache_folder(environment: Mapping[str, str]) -> Path:
    chosen = environment.get("NEUROMERGE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "neuromerge"


def _default(cls: type[Deployment], name: str) -> Any:
    found: Field[Any] = next(field for field in fields(cls) if field.name == name)
    assert found.default is not MISSING
    return found.default
