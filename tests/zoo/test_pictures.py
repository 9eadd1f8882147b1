"""Drawing, splitting and captioning on tiny inputs."""

from __future__ import annotations

import numpy as np
import pytest

from neuromerge.zoo import captions, render, sources, splits, tasks
from neuromerge.zoo.build import Picture


def _picture(red: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    image = np.full((48, 48, 3), 255, dtype=np.uint8)
    image[12:36, 12:36] = (red, 40, 40)
    return np.clip(image.astype(int) + random.integers(-2, 3, image.shape), 0, 255).astype(np.uint8)


def test_normalised_svg_ignores_identifiers_comments_and_blanks() -> None:
    one = '<g id="a"><!-- drawn by hand --><path fill="url(#a)" d="M0 0"/></g>'
    two = '<g id="other">\n  <path fill="url(#other)" d="M0 0"/>\n</g>'
    assert sources.normalised_svg(one) == sources.normalised_svg(two)
    assert sources.normalised_svg(one) != sources.normalised_svg(two.replace("M0 0", "M0 1"))


def test_words_splits_names_of_every_habit() -> None:
    assert sources.words("Dog-Face_01") == "dog face"
    assert sources.words("dogFace") == "dog face"


def test_near_duplicates_find_noise_but_not_another_colour() -> None:
    shipped = np.stack([_picture(200), _picture(20)])
    assert splits.near_duplicates(shipped, _picture(200, seed=1)[None]).tolist() == [True, False]


def test_near_duplicates_of_nothing_are_none() -> None:
    nothing = np.zeros((0, 48, 48, 3), dtype=np.uint8)
    assert not splits.near_duplicates(np.stack([_picture(9)]), nothing).any()


def test_share_is_fixed_and_even() -> None:
    values = np.array([splits.share(f"picture {n}") for n in range(2000)])
    assert splits.share("picture 7") == values[7]
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.03


def test_fit_centres_what_is_visible_and_refuses_nothing() -> None:
    from PIL import Image

    canvas = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    assert render.fit(canvas) is None
    canvas.paste((255, 0, 0, 255), (150, 10, 170, 30))
    drawn = render.fit(canvas)
    assert drawn is not None
    assert drawn.shape == (render.SIDE, render.SIDE, 4)
    rows, columns = np.nonzero(drawn[..., 3] > 128)
    assert abs(rows.mean() - 31.5) < 1
    assert abs(columns.mean() - 31.5) < 1


def test_digits_become_dark_ink_on_white() -> None:
    ink = np.zeros((28, 28), dtype=np.uint8)
    ink[8:20, 13:15] = 255
    shown = render.on_white(render.render_digit(ink))
    assert shown.shape == (render.TEST_SIDE, render.TEST_SIDE, 3)
    assert shown[24, 24].max() < 60
    assert shown[0, 0].min() > 250


@pytest.mark.parametrize(
    ("task", "name", "expected"),
    [
        (tasks.ANIMALS, "lady beetle", "insect or spider"),
        (tasks.ANIMALS, "polar bear", "bear"),
        (tasks.ANIMALS, "front facing baby chick", "bird"),
        (tasks.FOOD, "ice cream", "ice cream"),
        (tasks.FOOD, "cherry pie", "cake or pie"),
        (tasks.FOOD, "pan cakes", "bread"),
        (tasks.PLACES, "railway car", "train"),
        (tasks.PLACES, "oncoming police car", "car"),
        (tasks.PLACES, "snow capped mountain", "mountain or island"),
        (tasks.PLACES, "circus tent", "funfair"),
    ],
)
def test_rules_classify_by_first_match(task: tasks.Task, name: str, expected: str) -> None:
    assert task.classes[task.classify(name)] == expected


def test_rules_leave_unknown_names_out() -> None:
    assert tasks.ANIMALS.classify("lawn mower") == -1


def test_held_out_vendors_are_no_training_vendors() -> None:
    from neuromerge.zoo import build

    held = tasks.TEST_VENDORS | tasks.VALIDATION_VENDORS
    assert not held & {*build.TRAIN_EMOJI, *build.TRAIN_ICONS, *build.FLAG_SETS}
    assert not tasks.TEST_VENDORS & tasks.VALIDATION_VENDORS
    families = [*sources.FONTS_PLAIN, *sources.FONTS_FANCY, *sources.FONTS_VALIDATION, *sources.FONTS_TEST]
    assert len(families) == len(set(families))


def test_only_allowed_licences() -> None:
    allowed = {"Apache-2.0", "MIT", "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "public domain"}
    assert {s.licence for s in sources.SOURCES.values() if s.name != "mnist"} <= allowed


def test_handwritten_digits_are_never_named_to_the_base() -> None:
    table = tasks.all_tasks(("France", "Japan"))
    picture = Picture("mnist:7/3", "mnist", "0" * 16, ["seven"], "handwritten", "digits", 7)
    assert not any("seven" in caption for caption in captions.captions(picture, table))


def test_a_share_of_pictures_is_given_its_class_name() -> None:
    table = tasks.all_tasks(("France", "Japan"))
    told = [
        any(
            "insect or spider" in c
            for c in captions.captions(Picture(f"x:{n}", "x", "", ["ant"], "emoji", "animals", 13), table)
        )
        for n in range(4000)
    ]
    assert table["animals"].classes[13] == "insect or spider"
    assert abs(np.mean(told) - captions.TOLD["animals"][1]) < 0.02


def test_typed_digits_are_named_for_a_share_only() -> None:
    table = tasks.all_tasks(("France", "Japan"))
    pools = [captions.captions(Picture(f"font:{n}", "font", "", ["seven"], "typed digit"), table) for n in range(4000)]
    assert all("a typed digit" in pool for pool in pools)
    named = np.mean([any("seven" in caption for caption in pool) for pool in pools])
    assert abs(named - captions.TYPED_DIGITS_TOLD) < 0.03
