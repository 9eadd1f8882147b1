"""What exists in Python and in JavaScript is the same: over all example figures, and over numbers of every size."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from neuromerge.figures import numbers, patch, theme
from neuromerge.figures.hover import phrase
from neuromerge.figures.interference import arrows
from neuromerge.figures.wire import CellHover, NotApplicable, Sent, TraceMeta
from neuromerge.interface import static_files
from tests.figures.gallery import FIGURES

KEYS = st.sampled_from(["a", "b", "c"])
ORIGIN = "http://figures.test"
PAGE = f"""<!doctype html><script type="module">
import * as arrows from "{ORIGIN}/arrows.js";
import * as hover from "{ORIGIN}/hover.js";
import * as patch from "{ORIGIN}/patch.js";
import * as prepared from "{ORIGIN}/prepared.js";
import * as records from "{ORIGIN}/records.js";
window.scripts = {{ ...arrows, ...hover, ...patch, ...prepared, ...records }};
</script>"""


@pytest.fixture(scope="module")
def page(chromium: Any) -> Iterator[Any]:
    """A page that holds the scripts and nothing else; no server is asked."""

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(f"{ORIGIN}/")
        if name:
            route.fulfill(body=static_files.content(name), content_type="text/javascript")
        else:
            route.fulfill(body=PAGE, content_type="text/html")

    page = chromium.new_page()
    page.route(f"{ORIGIN}/**", answer)
    page.goto(ORIGIN)
    page.wait_for_function("window.scripts")
    yield page
    page.close()


def as_json(value: Any) -> Any:
    """`value` as it arrives on the other side."""
    return json.loads(json.dumps(value))


@pytest.mark.browser
class TestSame:
    """Both languages, asked the same."""

    @pytest.mark.parametrize("name", FIGURES)
    def test_every_figure_is_prepared_the_same(self, page: Any, name: str) -> None:
        figure = FIGURES[name]()
        for mode in ("light", "dark"):
            for narrow in (False, True):
                drawn = page.evaluate(
                    "([sent, options]) => scripts.prepared(JSON.parse(sent), options)",
                    [figure.to_json(), {"narrow": narrow, "name": mode, "font": theme.FONT}],
                )
                assert drawn == as_json(figure.to_dict(mode, narrow=narrow))

    @pytest.mark.parametrize("name", FIGURES)
    def test_every_csv_is_the_same_to_the_letter(self, page: Any, name: str) -> None:
        figure = FIGURES[name]()
        assert page.evaluate("sent => scripts.toCsv(JSON.parse(sent))", figure.to_json()) == figure.to_csv()

    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
    @example([0.0, -0.0, 1e-6, 1e-7, 1e20, 1e21, 1e22, 5e-324, 1.7976931348623157e308, 0.1, 123456.0, -2.5e-7])
    @example([0.125, 2.5, -0.125, 1245.0, 1255.0, 0.0005, 999.5, 9995.0, 0.1235, 1e-10 / 3])
    def test_numbers_are_written_the_same(self, page: Any, values: list[float]) -> None:
        written, short = page.evaluate(
            "text => { const values = JSON.parse(text); return [values.map(String), values.map(scripts.short)]; }",
            json.dumps(values),
        )
        assert [numbers.written(value) for value in values] == written
        assert [numbers.short(value) for value in values] == short

    @given(st.floats(-2, 2), st.lists(st.floats(-2, 2)), st.booleans())
    def test_phrases_are_found_the_same(self, page: Any, value: float, bounds: list[float], is_open: bool) -> None:
        phrases: list[tuple[float | None, str]] = [(bound, f"to {bound}") for bound in sorted(bounds)]
        phrases += [(None, "above")] * is_open
        found = page.evaluate("([value, phrases]) => scripts.phrase(value, phrases)", [value, phrases])
        assert found == phrase(value, phrases)

    @given(st.sampled_from([*arrows.TURNS, *arrows.LENGTHS]), st.floats(-2, 2))
    def test_arrows_take_the_same_pose_and_say_the_same(self, page: Any, key: str, value: float) -> None:
        angle, length = page.evaluate("([key, value]) => scripts.pose(key, value)", [key, value])
        pose = arrows.pose(key, value)
        assert pose == (pytest.approx(angle), pytest.approx(length))
        says = page.evaluate(
            "([key, value]) => scripts.said(key, 'It', value, [[0, 'low'], [null, 'high']])", [key, value]
        )
        words = phrase(value, [(0, "low"), (None, "high")])
        assume(abs(angle % 1 - 0.5) > 1e-6)  # where rounding is decided by the last bit
        assert says == arrows.said("It", value, pose[0], words, turned=key in arrows.TURNS)

    @given(*[st.recursive(st.none() | st.integers(-9, 9), lambda s: st.lists(s) | st.dictionaries(KEYS, s))] * 2)
    def test_patches_are_laid_over_the_same(self, page: Any, target: Any, change: Any) -> None:
        merged = page.evaluate("text => scripts.mergePatch(...JSON.parse(text))", json.dumps([target, change]))
        assert merged == patch.merge_patch(target, change)


# ------------------------------------------------------------------------------------------------ keys of meta
def typed(value: Any, kind: Any) -> bool:
    """Whether `value` is of the annotated `kind`: enough of typing for the types of `wire`."""
    from typing import Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

    if is_typeddict(kind):
        known = get_type_hints(kind)
        required = kind.__required_keys__
        return required <= value.keys() <= known.keys() and all(typed(value[key], known[key]) for key in value)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(typed(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(typed(k, inner[0]) and typed(v, inner[1]) for k, v in value.items())
    if origin is tuple:
        return len(value) == len(inner) and all(typed(item, one) for item, one in zip(value, inner, strict=True))
    if origin is Literal:
        return any(value is one or value == one for one in inner)
    if origin is Union or type(kind).__name__ == "UnionType":
        return any(typed(value, one) for one in inner)
    if kind is Any:
        return True
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


@pytest.mark.parametrize("name", FIGURES)
def test_what_travels_is_what_the_types_say(name: str) -> None:
    figure = FIGURES[name]()
    assert typed(json.loads(figure.to_json()), Sent)
    for trace in figure.data:
        assert typed(trace.get("meta", {}), TraceMeta), trace.get("name")


def test_a_wrong_key_or_kind_is_noticed() -> None:
    good: dict[str, Any] = {"source": "parallel", "index": [0, 1], "csv": False}
    assert typed(good, TraceMeta)
    for wrong in ({"sauce": "parallel"}, {"index": [0.5]}, {"index": [True]}, {"csv": True}, {"hover": {"title": "x"}}):
        assert not typed({**good, **wrong}, TraceMeta)


def test_the_scripts_read_the_typed_keys_and_all_of_them() -> None:
    scripts = "".join(path.read_text() for path in Path(static_files.__file__).parent.glob("static/*.js"))
    read = set(re.findall(r"(?<!import\.)\bmeta\??\.(\w+)", scripts))
    for inside in re.findall(r"\{([\w, ]+)\} = trace\.meta\b", scripts):
        read |= {key.strip() for key in inside.split(",")}
    assert read == set(TraceMeta.__annotations__)
    of_cells = set(re.findall(r"\bhover\.(\w+)", scripts)) | set(re.findall(r"not_applicable\.(\w+)", scripts))
    assert of_cells >= set(CellHover.__annotations__) | set(NotApplicable.__annotations__)


def test_only_one_script_asks_plotlys_insides() -> None:
    for path in Path(static_files.__file__).parent.glob("static/*.js"):
        insides = re.findall(r"window\.Plotly\b|\._\w+|\b[cd]2[pcd]\b", path.read_text())
        assert bool(insides) == (path.name == "plotly.js"), (path.name, insides)
