from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import SettingError
from neuromerge.exploration.results import SORTS
from neuromerge.interface import permalinks
from neuromerge.interface.permalinks import PageState
from neuromerge.interface.state import CellName, TabState
from neuromerge.interface.tabs import STATES
from neuromerge.interface.tabs.interference import InterferenceState
from neuromerge.interface.tabs.neuron import NeuronState
from neuromerge.interface.tabs.zero_shot import ZeroShotState
from neuromerge.merging.measures import measures
from neuromerge.settings.choices import PRESETS, Preset, change, make_setting, opening_setting

TASKS = ("digits", "flags", "styles")
FRESH = {key: kind() for key, kind in STATES.items()}


def encode(state: PageState) -> str:
    return permalinks.encode(state, STATES)


def decode(query: str | Mapping[Any, Any], families: Any) -> tuple[PageState, tuple[str, ...]]:
    return permalinks.decode(query, families, STATES)


def page(setting: Any, *, pinned: Any = None, compared: bool = True, tab: str = "", **states: TabState) -> PageState:
    """A page whose tabs are fresh but for those that are given."""
    return PageState(setting, pinned, compared, tab, {**FRESH, **states})


@pytest.fixture
def families(family: Any) -> Any:
    return {family.name: family}


def test_a_whole_page_comes_back(family: Any, families: Any) -> None:
    setting = change(make_setting(family, ["flags", "styles"], seed=3), family, trim_ratio=0.1 + 0.2)
    state = page(
        setting,
        pinned=make_setting(family, ["digits"], "ties", {}, seed=9),
        tab="neuron",
        interference=InterferenceState("cosine", CellName("block 3", "q"), "strength"),
        neuron=NeuronState(CellName("block 3", "q"), 17),
        zero_shot=ZeroShotState("flags"),
    )
    query = encode(state)
    assert decode(query, families) == (state, ())
    assert decode("?" + query, families) == (state, ())
    assert decode(dict(parse_qsl(query)), families) == (state, ())
    assert len(query) < 300


def test_a_link_of_the_first_version_opens_as_before(family: Any, families: Any) -> None:
    link = (
        "v=1&f=tiny&t=digits,flags&m=neuromerging&p=trim_ratio:0.7&s=3&pin=ties&tab=interference"
        "&measure=cosine&cell=block%202~fc1&n=17&sort=strength&task=flags"
    )
    setting = make_setting(family, ["digits", "flags"], "neuromerging", {"trim_ratio": 0.7}, 3)
    state, messages = decode(link, families)
    assert messages == ()
    assert state == page(
        setting,
        pinned=make_setting(family, ["digits", "flags"], "ties", {}),
        tab="interference",
        interference=InterferenceState("cosine", CellName("block 2", "fc1"), "strength"),
        neuron=NeuronState(CellName("block 2", "fc1"), 17),
        zero_shot=ZeroShotState("flags"),
    )


def test_of_two_tabs_with_one_name_the_open_one_decides(family: Any) -> None:
    layer = InterferenceState(cell=CellName("block 3", "q"))
    neuron = NeuronState(CellName("block 1", "fc1"), 17)
    setting = make_setting(family)

    def cell_and_neuron(tab: str) -> tuple[Any, Any]:
        fields = parse_qs(encode(page(setting, tab=tab, interference=layer, neuron=neuron)))
        return fields.get("cell"), fields.get("n")

    assert cell_and_neuron("neuron") == (["block 1~fc1"], ["17"])
    assert cell_and_neuron("interference") == (["block 3~q"], None)
    assert cell_and_neuron("merge") == (["block 3~q"], None)
    nothing_open = encode(page(setting, tab="interference", neuron=neuron))
    assert "cell" not in parse_qs(nothing_open)
    assert "n" not in parse_qs(nothing_open)


def test_a_page_that_compares_with_nothing_comes_back(family: Any, families: Any) -> None:
    state = page(make_setting(family), compared=False)
    query = encode(state)
    assert "pin=none" in query
    assert decode(query, families) == (state, ())


@pytest.mark.parametrize("address", ["", "?", "__theme=dark", "utm_source=x&logs=container"])
def test_an_address_that_is_no_link_opens_as_a_fresh_page(family: Any, families: Any, address: str) -> None:
    assert decode(address, families) == (page(opening_setting(family)), ())


@pytest.mark.parametrize("link", ["v=1", "f=tiny", "t=digits,flags,styles", "tab=merge", "measure=cosine", "p="])
def test_a_link_without_a_method_means_the_librarys_default_whatever_the_page_opens_with(
    family: Any, families: Any, link: str
) -> None:
    setting, _ = decode(link + "&s=0", families)
    assert setting.setting == make_setting(family)
    assert setting.setting != opening_setting(family)


@pytest.mark.parametrize("value", ["retention", "retention:0.85"])
def test_a_coefficient_that_goes_by_retention_comes_back(family: Any, families: Any, value: str) -> None:
    pinned = make_setting(family, method="tsv_m", hyperparameters={"scale": value})
    state = page(make_setting(family, hyperparameters={"lambda_orthogonal": value}), pinned=pinned)
    assert decode(encode(state), families) == (state, ())


@given(
    preset=st.sampled_from(PRESETS),
    tasks=st.sets(st.sampled_from(TASKS), min_size=1),
    seed=st.integers(0, 2**32 - 1),
    pinned=st.none() | st.sampled_from(PRESETS),
    trim=st.none() | st.floats(0, 1, exclude_max=True),
    tab=st.sampled_from(("", *STATES)),
    measure=st.sampled_from([info.key for info in measures()]),
    cell=st.sampled_from([None, CellName("stem", "patch"), CellName("block 11", "fc2")]),
    neuron=st.none() | st.integers(0, 10**6),
    sort=st.sampled_from(SORTS),
    task=st.sampled_from(("", *TASKS)),
)
def test_every_state_comes_back(
    family: Any,
    preset: Preset,
    tasks: set[str],
    seed: int,
    pinned: Preset | None,
    trim: float | None,
    tab: str,
    measure: str,
    cell: CellName | None,
    neuron: int | None,
    sort: str,
    task: str,
) -> None:
    setting = preset.apply(make_setting(family, tasks, seed=seed), family)
    if trim is not None and preset.method == "neuromerging":
        setting = change(setting, family, trim_ratio=trim)
    state = page(
        setting,
        pinned=pinned and pinned.apply(make_setting(family, ["flags"], seed=1), family),
        tab=tab,
        interference=InterferenceState(
            measure, cell, sort, picked=() if cell is None else (cell, CellName("head", "norm"))
        ),
        neuron=NeuronState(cell, neuron),
        zero_shot=ZeroShotState(task),
    )
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
        ("pin=ties;;;;;;;x", "pinned"),
        ("tab=secret", "tab"),
        ("measure=x", "measure"),
        ("cell=../../etc", "cell"),
        ("cells=block 1~fc1,../../etc", "cells"),
        ("n=x", "neuron"),
        ("n=٣", "neuron"),
        ("n=99999999999999999999", "neuron"),
        ("sort=x", "sort"),
        ("task=x", "task"),
        ("zzz=1", "unknown field 'zzz'"),
        ("s=1&s=2", "twice"),
        ("m=" + "x" * 20000, "longer than"),
        ("&".join(f"a{i}=1" for i in range(100)), "too many fields"),
    ],
)
def test_one_bad_field_is_explained_and_the_rest_applies(families: Any, query: str, message: str) -> None:
    good = "" if query.startswith(("m=x", "a0")) else "&tab=tune" * (not query.startswith("tab"))
    state, messages = decode(query + good, families)
    assert len(messages) == 1
    assert message in messages[0]
    assert len(messages[0]) < 300
    assert state.tab == ("tune" if good else "")


def test_what_hosts_and_browsers_add_is_not_mentioned(families: Any) -> None:
    assert decode("utm_source=x&__theme=dark&logs=container&fbclid=1", families)[1] == ()


def test_a_hostile_link_does_not_fill_the_page(families: Any) -> None:
    _, messages = decode("p=" + ",".join(f"x{i}:1" for i in range(500)), families)
    assert len(messages) <= permalinks.MAX_MESSAGES + 1


def test_fields_of_the_wrong_type_are_explained(families: Any) -> None:
    _, messages = decode({"m": 3, 5: "x", "t": ["digits"]}, families)
    assert len(messages) == 3


def test_without_any_family_there_is_nothing_to_show() -> None:
    with pytest.raises(SettingError, match="No model family"):
        decode("", {})


_values = st.text(max_size=30) | st.sampled_from(["ties", "auto", "trim_ratio:0.5", "1", "block 1~q", ";;;", "digits"])


@given(
    fields=st.dictionaries(
        st.sampled_from(["v", "f", "t", "m", "p", "s", "w", "x", "pin", "tab", "measure", "cell", "n", "sort", "task"])
        | st.text(max_size=5),
        _values,
        max_size=8,
    )
)
def test_no_fields_cause_an_error(family: Any, fields: Any) -> None:
    state, messages = decode(fields, {family.name: family})
    assert decode(encode(state), {family.name: family}) == (state, ())
    assert all(isinstance(message, str) for message in messages)


@given(query=st.text(max_size=200))
def test_no_query_causes_an_error(family: Any, query: str) -> None:
    decode(query, {family.name: family})


_factor = st.floats(-100, 100) | st.sampled_from([0.0, 0.5, 1.0, 1 / 3])
_curve = _factor | st.lists(_factor, min_size=2, max_size=5)
_part = st.sampled_from(["fc1", "block 3", "block 3/fc1", "rest", "a,b:c", "x@y;z"]) | st.text(
    st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=9
)
_shape = _curve | st.dictionaries(st.sampled_from(["lambda_parallel", "lambda_orthogonal"]), _curve, min_size=1)


@given(profile=st.dictionaries(_part, _shape, max_size=6), weights=st.dictionaries(st.sampled_from(TASKS), _factor))
def test_profiles_and_weights_come_back(family: Any, profile: Any, weights: Any) -> None:
    setting = make_setting(family, TASKS, profile=profile, task_weights=weights)
    plain = make_setting(family, TASKS)
    for state in (page(setting), page(plain, pinned=setting)):
        assert decode(encode(state), {family.name: family}) == (state, ())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("w=nobody:2", "weights"),
        ("w=digits:much", "weights"),
        ("w=digits:nan", "weights"),
        ("x=fc1:much", "profile"),
        ("x=fc1", "profile"),
        ("x=fc1:1e9", "profile"),
        ("x=fc1:1,fc1:2", "twice"),
        ("x=fc1:1,fc1@lambda_parallel:2", "twice"),
        ("x=fc1@nothing:1", "no coefficient"),
        ("m=ties&x=fc1@lambda_parallel:1", "no coefficient"),
    ],
)
def test_a_bad_profile_or_weight_is_explained_and_left_out(families: Any, query: str, message: str) -> None:
    state, messages = decode(query + "&tab=tune", families)
    assert len(messages) == 1
    assert message in messages[0]
    assert (state.setting.profile, state.setting.task_weights, state.tab) == ((), (), "tune")


def test_task_names_with_punctuation_come_back(family: Any) -> None:
    odd = replace(family, experts={"a,b": "x", "c;d:e": "y", "f~g&h=ü": "z"})
    state = page(
        make_setting(odd, ["a,b", "f~g&h=ü"]),
        pinned=make_setting(odd, ["c;d:e"]),
        zero_shot=ZeroShotState("c;d:e"),
    )
    assert decode(encode(state), {odd.name: odd}) == (state, ())


@pytest.mark.parametrize("query", ["", "tab=interference", "measure=retention&tab=neuron", "f={family}", "step=2"])
def test_an_address_that_says_nothing_of_a_merge_opens_as_a_fresh_page(query: str, family: Any, families: Any) -> None:
    """Clicking a tab of a fresh page puts ``tab`` into the address: a reload must not show another merge."""
    state, messages = decode(query.replace("{family}", family.name), families)
    assert (state.setting, messages) == (opening_setting(family), ())


@pytest.mark.parametrize("query", ["v=1", "t=digits", "m=neuromerging", "v=1&tab=interference"])
def test_an_address_about_a_merge_means_the_published_defaults(query: str, family: Any, families: Any) -> None:
    state, _ = decode(query, families)
    assert state.setting == make_setting(family, state.setting.tasks)
