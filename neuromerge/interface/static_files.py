"""The scripts and styles of the figures, served by routes of the app's own under URLs relative to the page.

No network is needed, a proxy's prefix keeps working, and no path of the machine reaches the browser. The modules live
in a folder named by a fingerprint of them all, so that they may import one another by their plain names and be kept
for ever; Plotly has a name of its own, so that it is not fetched anew when they change. Everything is compressed
once: no request pays for it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from threading import Thread

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neuromerge.figures.theme import BLACK_ABOVE, css_variables, template, tokens

URL = "neuromerge-static"
"""Where everything is served, relative to the page."""

ENTRY = "view.js"
"""The module that the page loads; it imports the others."""

_FOLDER = Path(__file__).parent / "static"
_STYLE = "view.css"
_MORE_STYLES = ("tour.css",)
"""Laid behind `_STYLE` and served with it. What names the page's body must stand here: Gradio puts its own styles
under its container."""
_DESIGN = "design.js"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


_CLOCK = """<script>{
  const frame = window.requestAnimationFrame.bind(window);
  const isClock = () => new Error().stack.includes("/statustracker-");
  window.requestAnimationFrame = (draw) => (isClock() ? setTimeout(() => frame(draw), 100) : frame(draw));
}</script>"""
"""Gradio's clock of the page's opening is never stopped: it would draw sixty frames a second as long as the page is
open. The clocks that are seen count tenths of a second, so ten frames do. Before Gradio's modules, which keep the
function that they find."""


def plotly_script() -> Path:
    """plotly.py's own copy of plotly.js, so that the two versions agree."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


@lru_cache(maxsize=1)
def plotly_name() -> str:
    """File name of plotly.js with a fingerprint of its size and version line: a new version has a new URL."""
    path = plotly_script()
    with path.open("rb") as file:
        head = file.read(200)
    return f"plotly-{_fingerprint(head + str(path.stat().st_size).encode())}.min.js"


def modules() -> tuple[str, ...]:
    """Names of the ES modules, the entry first; one of them, the design, is made from the tokens."""
    written = sorted(path.name for path in _FOLDER.glob("*.js"))
    return (ENTRY, _DESIGN, *(name for name in written if name != ENTRY))


@lru_cache(maxsize=1)
def version() -> str:
    """Fingerprint of all modules and the style sheet: the folder they are served from."""
    return _fingerprint(b"\0".join(content(name) for name in (*modules(), _STYLE)))


@lru_cache(maxsize=32)
def content(name: str) -> bytes:
    """The file served as `name`. Raises KeyError for a name that is not one of ours."""
    if name == _DESIGN:
        return _design().encode()
    if name == _STYLE:
        sheets = ((_FOLDER / sheet).read_bytes() for sheet in (_STYLE, *_MORE_STYLES))
        return css_variables().encode() + b"".join(sheets)
    if name == plotly_name():
        return plotly_script().read_bytes()
    if name in modules():
        return (_FOLDER / name).read_bytes()
    raise KeyError(name)


def _design() -> str:
    """What the scripts know of the design: the tokens, the template of every figure, and where Plotly is."""
    constants = {
        "TOKENS": {"light": tokens("light"), "dark": tokens("dark")},
        "TEMPLATE": template(),
        "BLACK_ABOVE": BLACK_ABOVE,
        "PLOTLY_URL": f"../{plotly_name()}",
    }
    return "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in constants.items())


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:10]


@lru_cache(maxsize=32)
def _compressed(name: str) -> bytes:
    return gzip.compress(content(name), compresslevel=6, mtime=0)


def _serve(request: Request) -> Response:
    """One file; what is asked for under an older version's folder must not be kept under that name."""
    name, folder = request.path_params["name"], request.path_params.get("version")
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    try:
        body = _compressed(name) if zipped else content(name)
    except KeyError:
        return Response("No such file.", status_code=404, media_type="text/plain")
    lasting = name == plotly_name() or folder == version()
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if lasting else "no-cache",
        "Vary": "Accept-Encoding",
        **({"Content-Encoding": "gzip"} if zipped else {}),
    }
    return Response(body, headers=headers, media_type=_TYPES[Path(name).suffix])


def routes() -> list[Route]:
    """Routes that serve the files: ``demo.launch(app_kwargs={"routes": routes()}, ...)``.

    Compresses Plotly in the background meanwhile (a quarter of a second), so that the first visitor need not wait.
    """
    Thread(target=_compressed, args=(plotly_name(),), daemon=True).start()
    return [
        Route(f"/{URL}/{{version}}/{{name}}", _serve, methods=["GET"]),
        Route(f"/{URL}/{{name}}", _serve, methods=["GET"]),
    ]


def early() -> str:
    """HTML for the beginning of the page's head, before Gradio's scripts.

    All files are fetched at once: found one by one through their imports, or in what Gradio lays into the head when its
    scripts run, they would take a round trip each. Plotly is fetched, too, but run by the first view: until then the
    page itself has the processor.
    """
    folder = f"{URL}/{version()}"
    return "".join(
        [
            _CLOCK,
            f'<link rel="preload" as="style" href="{folder}/{_STYLE}">',
            *(f'<link rel="modulepreload" href="{folder}/{name}">' for name in modules()),
            f'<link rel="preload" as="script" href="{URL}/{plotly_name()}">',
        ]
    )


def head() -> str:
    """HTML that Gradio lays into the head (``demo.launch(head=...)``): the design's CSS and the views' module."""
    folder = f"{URL}/{version()}"
    return f'<link rel="stylesheet" href="{folder}/{_STYLE}"><script type="module" src="{folder}/{ENTRY}"></script>'
