from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import SettingError
from neuromerge.interface import permalinks
from neuromerge.interface.permalinks import SORTS, TABS, PageState, decode, encode
from neuromerge.merging.measures import measures
from neuromerge.settings.choices import PRESETS, change, make_setting

TASKS = ("digits", "flags", "styles")


@pytest.fixture
def families(family):
    return {family.name: family}


def test_a_whole_page_comes_back(family, families):
    setting = change(make_setting(family, ["flags", "styles"], seed=3), family, trim_ratio=0.1 + 0.2)
    pinned = make_setting(family, ["digits"], "ties", {}, seed=9)
    state = PageState(setting, pinned, "neuron", "cosine", "block 3", "q", 17, "strength", "flags")
    query = encode(state)
    assert decode(query, families) == (state, ())
    assert decode("?" + query, families) == (state, ())
    assert decode(dict(parse_qsl(query)), families) == (state, ())
    assert len(query) < 300


def test_a_page_that_compares_with_nothing_comes_back(family, families):
    state = PageState(make_setting(family), compared=False)
    query = encode(state)
    assert "pin=none" in query
    assert decode(query, families) == (state, ())


def test_an_empty_link_is_the_default_page(family, families):
    state, messages = decode("", families)
    assert state == PageState(make_setting(family))
    assert messages == ()


@given(
    preset=st.sampled_from(PRESETS),
    tasks=st.sets(st.sampled_from(TASKS), min_size=1),
    seed=st.integers(0, 2**32 - 1),
    pinned=st.none() | st.sampled_from(PRESETS),
    trim=st.none() | st.floats(0, 1, exclude_max=True),
    tab=st.sampled_from(("", *TABS)),
    measure=st.sampled_from(("", *(info.key for info in measures()))),
    cell=st.sampled_from([("", ""), ("stem", "patch"), ("block 11", "fc2")]),
    neuron=st.none() | st.integers(0, 10**6),
    sort=st.sampled_from(("", *SORTS)),
    task=st.sampled_from(("", *TASKS)),
)
def test_every_state_comes_back(family, preset, tasks, seed, pinned, trim, tab, measure, cell, neuron, sort, task):
    setting = preset.apply(make_setting(family, tasks, seed=seed), family)
    if trim is not None and preset.method == "neuromerging":
        setting = change(setting, family, trim_ratio=trim)
    pin = pinned and pinned.apply(make_setting(family, ["flags"], seed=1), family)
    state = PageState(setting, pin, tab, measure, *cell, neuron, sort, task)
    assert decode(encode(state), {family.name: family}) == (state, ())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("v=99", "version"),
        ("f=other", "family 'other'"),
        ("t=digits,unknown", "no task 'unknown'"),
        ("m=best", "method 'best'"),
        ("p=trim_ratio:9", "trim_ratio must be"),
        ("p=trim_ratio:nan", "trim_ratio must be"),
        ("p=other:1", "no parameter 'other'"),
        ("p=trim_ratio", "no parameter"),
        ("s=-1", "seed"),
        ("pin=best", "pinned"),
        ("pin=ties;;;;;x", "pinned"),
        ("tab=secret", "tab"),
        ("measure=x", "measure"),
        ("cell=../../etc", "cell"),
        ("n=x", "neuron"),
        ("n=٣", "neuron"),
        ("n=99999999999999999999", "neuron"),
        ("sort=x", "sort"),
        ("task=x", "task"),
        ("zzz=1", "unknown field 'zzz'"),
        ("s=1&s=2", "twice"),
        ("m=" + "x" * 5000, "longer than"),
        ("&".join(f"a{i}=1" for i in range(100)), "too many fields"),
    ],
)
def test_one_bad_field_is_explained_and_the_rest_applies(families, query, message):
    good = "" if query.startswith(("m=x", "a0")) else "&tab=tune" * (not query.startswith("tab"))
    state, messages = decode(query + good, families)
    assert len(messages) == 1
    assert message in messages[0]
    assert len(messages[0]) < 300
    assert state.tab == ("tune" if good else "")


def test_what_hosts_and_browsers_add_is_not_mentioned(families):
    assert decode("utm_source=x&__theme=dark&logs=container&fbclid=1", families)[1] == ()


def test_a_hostile_link_does_not_fill_the_page(families):
    _, messages = decode("p=" + ",".join(f"x{i}:1" for i in range(500)), families)
    assert len(messages) <= permalinks.MAX_MESSAGES + 1


def test_fields_of_the_wrong_type_are_explained(families):
    _, messages = decode({"m": 3, 5: "x", "t": ["digits"]}, families)  # type: ignore[dict-item]
    assert len(messages) == 3


def test_without_any_family_there_is_nothing_to_show():
    with pytest.raises(SettingError, match="No model family"):
        decode("", {})


_values = st.text(max_size=30) | st.sampled_from(["ties", "auto", "trim_ratio:0.5", "1", "block 1~q", ";;;", "digits"])


@given(
    fields=st.dictionaries(
        st.sampled_from(["v", "f", "t", "m", "p", "s", "pin", "tab", "measure", "cell", "n", "sort", "task"])
        | st.text(max_size=5),
        _values,
        max_size=8,
    )
)
def test_no_fields_cause_an_error(family, fields):
    state, messages = decode(fields, {family.name: family})
    assert decode(encode(state), {family.name: family}) == (state, ())
    assert all(isinstance(message, str) for message in messages)


@given(query=st.text(max_size=200))
def test_no_query_causes_an_error(family, query):
    decode(query, {family.name: family})


def test_task_names_with_punctuation_come_back(family):
    from dataclasses import replace

    odd = replace(family, experts={"a,b": "x", "c;d:e": "y", "f~g&h=ü": "z"})
    state = PageState(make_setting(odd, ["a,b", "f~g&h=ü"]), make_setting(odd, ["c;d:e"]), task="c;d:e")
    assert decode(encode(state), {odd.name: odd}) == (state, ())
