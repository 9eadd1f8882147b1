"""Where the pictures come from: pinned packages, their licences, and how each one is read.

Everything arrives through a package registry (`npm`) or a Debian package, so that the same bytes can be
fetched again: versions are pinned in `PACKAGES` and `FONTS`, and every picture carries a digest of what it
was drawn from (normalised SVG body, font file and character, digit bytes). Only Apache 2.0, MIT, CC0,
public-domain, OFL and CC BY sources are read. The one exception is the handwritten digits (MNIST), whose
pictures are widely stated to be under CC BY-SA 3.0; they ship in a folder of their own with a notice.
"""

# The tables below read best one entry a line, however long.
# ruff: noqa: E501, SIM905

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neuromerge.errors import AssetError, SourceUnavailableError

OPENCLIPART = Path("/usr/share/openclipart/svg")
"""Where Debian's package `openclipart-svg` puts its drawings."""


@dataclass(frozen=True)
class Source:
    """One collection of pictures: its pinned package and what its licence asks for."""

    name: str
    package: str
    version: str
    licence: str
    credit: str
    url: str


def _icons(name: str, version: str, licence: str, credit: str, url: str) -> Source:
    return Source(name, f"@iconify-json/{name}", version, licence, credit, url)


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _icons("noto", "1.2.9", "Apache-2.0", "Noto Emoji, Google", "https://github.com/googlefonts/noto-emoji"),
        _icons("noto-v1", "1.2.5", "Apache-2.0", "Noto Emoji (v1), Google", "https://github.com/googlefonts/noto-emoji"),
        _icons("twemoji", "1.2.5", "CC-BY-4.0", "Twitter Emoji, Twitter", "https://github.com/twitter/twemoji"),
        _icons("fluent-emoji-flat", "1.2.6", "MIT", "Fluent Emoji, Microsoft", "https://github.com/microsoft/fluentui-emoji"),
        _icons("fluent-emoji", "1.2.7", "MIT", "Fluent Emoji, Microsoft", "https://github.com/microsoft/fluentui-emoji"),
        _icons("emojione", "1.2.3", "CC-BY-4.0", "Emoji One (Colored), Emoji One", "https://github.com/EmojiTwo/emojitwo"),
        _icons("fxemoji", "1.2.2", "Apache-2.0", "Firefox OS Emoji, Mozilla", "https://github.com/mozilla/fxemoji"),
        _icons("streamline-emojis", "1.2.4", "CC-BY-4.0", "Streamline Emojis, Streamline",
               "https://github.com/webalys-hq/streamline-vectors"),
        _icons("flag", "1.2.12", "MIT", "Flag Icons, Panayiotis Lipiridis", "https://github.com/lipis/flag-icons"),
        _icons("flagpack", "1.2.8", "MIT", "Flagpack, Yummygum", "https://github.com/Yummygum/flagpack-core"),
        _icons("cif", "1.2.7", "CC0-1.0", "CoreUI Flags, creativeLabs Lukasz Holeczek", "https://github.com/coreui/coreui-icons"),
        _icons("icon-park", "1.2.4", "Apache-2.0", "IconPark, ByteDance", "https://github.com/bytedance/IconPark"),
        _icons("game-icons", "1.2.4", "CC-BY-3.0", "Game Icons, by Lorc, Delapouite and contributors",
               "https://github.com/game-icons/icons"),
        _icons("meteocons", "1.2.4", "MIT", "Meteocons, Bas Milius", "https://github.com/basmilius/weather-icons"),
        _icons("fluent-color", "1.2.21", "MIT", "Fluent UI System Color Icons, Microsoft",
               "https://github.com/microsoft/fluentui-system-icons"),
        _icons("streamline-ultimate-color", "1.2.2", "CC-BY-4.0", "Ultimate color icons, Streamline",
               "https://github.com/webalys-hq/streamline-vectors"),
        _icons("streamline-freehand-color", "1.2.2", "CC-BY-4.0", "Freehand color icons, Streamline",
               "https://github.com/webalys-hq/streamline-vectors"),
        Source("unicode-emoji-json", "unicode-emoji-json", "0.9.0", "MIT", "unicode-emoji-json, Mu-An Chiou",
               "https://github.com/muan/unicode-emoji-json"),
        Source("mnist", "mnist", "1.1.0", "code MIT; pictures CC-BY-SA-3.0 (as widely stated)",
               "MNIST, Yann LeCun, Corinna Cortes, Christopher J. C. Burges; JSON by Juan Cazala",
               "https://github.com/cazala/mnist"),
        Source("openclipart", "openclipart-svg (Debian)", "1:0.18+dfsg-19", "public domain",
               "Open Clip Art Library and its artists", "https://openclipart.org"),
    )
}  # fmt: skip

# Families whose glyphs look like plain text faces: the base sees these with their letter named.
FONTS_PLAIN = """abeezee acme aleo alegreya archivo-black arvo barlow bitter bree-serif cabin courier-prime
crimson-text dm-sans dm-serif-display domine dosis eb-garamond exo-2 fira-mono fira-sans fjalla-one ibm-plex-mono
inconsolata inter josefin-sans kanit lato league-gothic libre-baskerville lora merriweather montserrat nunito
old-standard-tt open-sans oswald philosopher playfair-display poppins prata quicksand raleway roboto roboto-slab rubik
syne teko unbounded vollkorn zilla-slab""".split()

# Handwriting and display families: the test and validation families are of this kind, but never these.
FONTS_FANCY = """alfa-slab-one amatic-sc architects-daughter audiowide bad-script bangers black-ops-one bowlby-one-sc
cabin-sketch calistoga caveat chewy cinzel comfortaa cookie courgette damion fredoka gloria-hallelujah
graduate great-vibes handlee itim kaushan-script knewave lobster londrina-solid medievalsharp michroma
neucha nosifer orbitron passion-one patrick-hand patua-one pixelify-sans press-start-2p
rammetto-one righteous rock-salt russo-one satisfy schoolbell shrikhand sigmar-one
staatliches titan-one yellowtail short-stack paytone-one coiny germania-one marck-script anton""".split()

FONTS_VALIDATION = """berkshire-swash bubblegum-sans comic-neue dancing-script gochi-hand permanent-marker poiret-one
special-elite uncial-antiqua bebas-neue sniglet reenie-beanie""".split()

FONTS_TEST = """abril-fatface amaranth caveat-brush creepster finger-paint indie-flower kalam lilita-one luckiest-guy
monoton pacifico sacramento shadows-into-light vt323""".split()

FONT_VERSIONS = Path(__file__).with_name("fonts.json")
"""Pinned version and licence of every font family, as JSON."""


@dataclass(frozen=True)
class Drawing:
    """One picture before it is drawn.

    `svg` is complete SVG text, or "" for glyphs and digits. `names` are what the source calls it, best first.
    `group` is the Unicode group, the Open Clip Art folder or the icon category. `author` is set where splits
    go by author.
    """

    source: str
    key: str
    digest: str
    names: tuple[str, ...]
    group: str = ""
    author: str = ""
    svg: str = ""

    @property
    def id(self) -> str:
        """Name of the picture across the whole collection, such as `twemoji:dog-face`."""
        return f"{self.source}:{self.key}"


def digest(*parts: str | bytes) -> str:
    """First 16 hexadecimal digits of SHA-256 over the parts: the identity of a training source."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode() if isinstance(part, str) else part)
        sha.update(b"\0")
    return sha.hexdigest()[:16]


def normalised_svg(body: str) -> str:
    """SVG text without comments, metadata, identifiers and needless blanks, so that equal drawings have equal digests."""
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r"<(metadata|title|desc)\b.*?</\1>", "", body, flags=re.S)
    names = {name: f"i{n}" for n, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', body)))}
    body = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{names[m[1]]}"', body)
    body = re.sub(r"#([\w.-]+)", lambda m: f"#{names.get(m[1], m[1])}", body)
    return re.sub(r"\s+", " ", re.sub(r">\s+<", "><", body)).strip()


def words(name: str) -> str:
    """A source's identifier as plain lower-case words: `Dog-Face_01` becomes `dog face`."""
    name = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return re.sub(r"\s+", " ", re.sub(r"[^a-z]+", " ", name.lower())).strip()


def install(cache: Path) -> Path:
    """Install every pinned npm package below `cache` and return its `node_modules`.

    Raises `SourceUnavailableError` when npm is missing or cannot reach a package.
    """
    fonts = json.loads(FONT_VERSIONS.read_text())
    wanted = {s.package: s.version for s in SOURCES.values() if "(Debian)" not in s.package}
    wanted |= {f"@fontsource/{family}": pin["version"] for family, pin in fonts.items()}
    manifest = cache / "package.json"
    content = json.dumps({"name": "neuromerge-zoo", "private": True, "dependencies": wanted}, indent=1, sort_keys=True)
    modules = cache / "node_modules"
    if manifest.exists() and manifest.read_text() == content and all((modules / name).is_dir() for name in wanted):
        return modules
    cache.mkdir(parents=True, exist_ok=True)
    manifest.write_text(content)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    try:
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SourceUnavailableError("npm was not found. Install Node.js, which brings npm, and run again.") from error
    if done.returncode:
        raise SourceUnavailableError(f"npm could not install the picture packages: {done.stderr.strip()[-400:]}")
    return modules


def emoji_names(modules: Path) -> dict[str, tuple[str, str]]:
    """Map a squeezed emoji name (`dogface`) to its Unicode group and its name (`dog face`)."""
    table = json.loads((modules / "unicode-emoji-json" / "data-by-emoji.json").read_text())
    return {squeeze(entry["slug"]): (entry["group"], words(entry["slug"])) for entry in table.values()}


def flag_codes(modules: Path) -> dict[str, str]:
    """Map a two-letter country code to the country's name, from the Unicode list of flags."""
    table = json.loads((modules / "unicode-emoji-json" / "data-by-emoji.json").read_text())
    codes = {}
    for emoji, entry in table.items():
        if len(emoji) == 2 and all(0x1F1E6 <= ord(letter) <= 0x1F1FF for letter in emoji):
            code = "".join(chr(ord(letter) - 0x1F1E6 + ord("a")) for letter in emoji)
            codes[code] = entry["name"].removeprefix("flag").strip(" :")
    return codes


def squeeze(name: str) -> str:
    """Letters and digits only, lower case: how names of different sources are compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


_SKIN_TONE = re.compile(r"-(skin-tone|(medium-)?(light|dark)$|medium$)")


def icon_drawings(modules: Path, source: str) -> Iterator[Drawing]:
    """Every picture of one icon set, skin-tone variants left out (they are one picture, drawn again)."""
    folder = modules / "@iconify-json" / source
    try:
        icons = json.loads((folder / "icons.json").read_text())
    except OSError as error:
        raise AssetError(f"{folder} is not installed. Run `python -m neuromerge.zoo build-data`.") from error
    metadata = folder / "metadata.json"
    categories = json.loads(metadata.read_text()).get("categories", {}) if metadata.exists() else {}
    group_of = {key: group for group, keys in categories.items() for key in keys}
    also: dict[str, list[str]] = {}
    for alias, target in icons.get("aliases", {}).items():
        also.setdefault(target["parent"], []).append(alias)
    for key, icon in icons["icons"].items():
        if _SKIN_TONE.search(key) or icon.get("hidden"):
            continue
        box = {name: icon.get(name, icons.get(name, default)) for name, default in
               (("left", 0), ("top", 0), ("width", 16), ("height", 16))}  # fmt: skip
        body = icon["body"]
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{box["width"]}" height="{box["height"]}" '
            f'viewBox="{box["left"]} {box["top"]} {box["width"]} {box["height"]}">{body}</svg>'
        )
        names = tuple(dict.fromkeys([key, *also.get(key, [])]))
        yield Drawing(source, key, digest(normalised_svg(body)), names, group_of.get(key, ""), "", svg)


_SERIES = re.compile(r"clip ?art|road signs|etiquette|illustration|symbol set|icons?$")
"""Titles of whole series, which say nothing about the one drawing."""

_EXCLUDED_FOLDERS = ("logos", "computer", "buttons", "signs_and_symbols/flags", "special", "unsorted", "shapes")


def clipart_drawings(root: Path = OPENCLIPART) -> Iterator[Drawing]:
    """Open Clip Art drawings with their title, folder and author; logos, screens and flags are left out."""
    if not root.is_dir():
        raise SourceUnavailableError(f"{root} is missing. Install Debian's package openclipart-svg (apt-get install).")
    for path in sorted(root.rglob("*.svg")):
        group = path.parent.relative_to(root).as_posix()
        if group.startswith(_EXCLUDED_FOLDERS) or path.stat().st_size > 400_000:
            continue
        text = path.read_text(errors="replace")
        found = re.search(r"<dc:title>([^<]+)</dc:title>", text)
        people = re.findall(r"<(?:cc:)?Agent[^>]*>\s*<dc:title>([^<]+)</dc:title>", text)
        author = words(people[0]) if people else ""
        title = words(html.unescape(found[1])) if found else ""
        for word in author.split():  # file names end in a shortened author
            title = title.replace(word, " ")
        stem = words(re.sub(r"_[^_]*_?\d*$", "", path.stem)) or words(path.stem)
        names = tuple(n for n in dict.fromkeys([" ".join(title.split()), stem]) if n and not _SERIES.search(n))
        key = path.relative_to(root).as_posix()
        yield Drawing("openclipart", key, digest(normalised_svg(text)), names, group, author, text)
