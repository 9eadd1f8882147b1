from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromerge.deployment import Limits
from neuromerge.errors import LimitError, NeuroMergeError, SettingError
from neuromerge.interface.limits import check_class_names, check_template

LIMITS = Limits(max_classes=5, max_class_length=10, max_prompt_length=30)


def test_limits_come_from_the_environment() -> None:
    assert Limits.from_environment({}) == Limits()
    assert Limits.from_environment({"NEUROMERGE_QUEUE_SIZE": " 7 "}).queue_size == 7


@pytest.mark.parametrize("text", ["-1", "0", "many", "1.5", "1e3", "٣", "9" * 40])
def test_a_limit_that_is_no_number_is_named(text: Any) -> None:
    with pytest.raises(SettingError, match="NEUROMERGE_MAX_PIXELS"):
        Limits.from_environment({"NEUROMERGE_MAX_PIXELS": text})


def test_class_names_by_line_and_comma_without_repeats() -> None:
    assert check_class_names(" cat \n\ndog,cat,  red   fox ", LIMITS) == ("cat", "dog", "red fox")


@pytest.mark.parametrize("text", ["", "cat", "cat\ncat", None, 7, ["cat", "dog"]])
def test_fewer_than_two_names_are_refused(text: Any) -> None:
    with pytest.raises(SettingError):
        check_class_names(text, LIMITS)


@pytest.mark.parametrize("text", ["a,b,c,d,e,f", "cat," + "d" * 11, "x" * 10_000])
def test_too_many_or_too_long_names_are_refused(text: Any) -> None:
    with pytest.raises(LimitError):
        check_class_names(text, LIMITS)


def test_a_template_needs_its_place_once() -> None:
    assert check_template("  a picture\nof a {} ", LIMITS) == "a picture of a {}"
    for text in ("a picture", "{} {}", "{0}", "{}}", "{{}", "{name}", None, 3):
        with pytest.raises(SettingError):
            check_template(text, LIMITS)
    with pytest.raises(LimitError):
        check_template("x" * 40 + "{}", LIMITS)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text(string.printable, max_size=80), st.none(), st.integers()))
def test_any_text_gives_names_or_a_message(text: Any) -> None:
    try:
        names = check_class_names(text, LIMITS)
    except NeuroMergeError as error:
        assert str(error).isprintable() or "\n" not in str(error)  # noqa: PT017 - any message is fine, any other error not
    else:
        assert 2 <= len(names) <= LIMITS.max_classes
        assert all(0 < len(name) <= LIMITS.max_class_length and name.isprintable() for name in names)
