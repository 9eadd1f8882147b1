"""Small files that the page hands over without the server keeping any."""

from __future__ import annotations

import base64
import html


def download_link(text: str, name: str, kind: str, title: str) -> str:
    """HTML of a link that saves `text` as a file called `name`, of the media type `kind`."""
    data = base64.b64encode(text.encode()).decode("ascii")
    name, title = html.escape(name, quote=True), html.escape(title)
    return f"<a class='nm-save' download='{name}' href='data:{kind};base64,{data}'>{title}</a>"
