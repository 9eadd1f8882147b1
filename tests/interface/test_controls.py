from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from neuromerge.errors import SettingError
from neuromerge.interface.app import build
from neuromerge.interface.components.controls import (
    Controls,
    HyperparameterControl,
    build_controls,
    comparison_choices,
    pin_key,
)
from neuromerge.interface.session import Session
from neuromerge.merging import registry
from neuromerge.merging.profile import make_profile
from neuromerge.settings.choices import PRESETS, Preset, first_setting, make_setting
from neuromerge.settings.setting import Setting
from tests.interface.fakes import FakeWorkspace, family

FAMILY = family()
FAMILIES = {FAMILY.name: FAMILY}

Values = dict[Any, Any]


@pytest.fixture(scope="module")
def controls() -> Controls:
    with gr.Blocks(analytics_enabled=False):
        return build_controls(FAMILIES)


@pytest.fixture
def values(controls: Controls) -> Values:
    return controls.read([component.value for component in controls.gathered])


def put(controls: Controls, values: Values, setting: Setting) -> Values:
    """What the page's controls hold after `updates`."""
    shown = {component: update["value"] for component, update in controls.updates(setting).items()}
    return {**values, **shown}


def control(controls: Controls, name: str) -> HyperparameterControl:
    return next(c for c in controls.hyperparameters if c.method == "neuromerging" and c.spec.name == name)


def test_the_page_opens_with_the_first_setting(controls: Controls, values: Values) -> None:
    assert controls.setting(values) == first_setting(FAMILIES)


@pytest.mark.parametrize("method", list(registry.methods()))
def test_every_method_has_a_control_for_each_parameter(controls: Controls, values: Values, method: str) -> None:
    setting = make_setting(FAMILY, ("digits", "flags"), method)
    assert controls.setting(put(controls, values, setting)) == setting


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.key)
def test_presets_go_through_the_controls_unchanged(controls: Controls, values: Values, preset: Preset) -> None:
    setting = preset.apply(make_setting(FAMILY), FAMILY)
    assert controls.setting(put(controls, values, setting)) == setting


@pytest.mark.parametrize(
    ("method", "profile"),
    [
        ("neuromerging", {"fc1": [0.5, 1.0, 1.5], "block 3": {"lambda_parallel": 0.0}, "rest": 1.0}),
        ("ties", {"block 2/q": 0.0, "attention": 1.2}),
    ],
)
def test_profile_and_weights_go_through_the_controls_unchanged(
    controls: Controls, values: Values, method: str, profile: dict[str, Any]
) -> None:
    weights = {"digits": 0.0, "flags": 1.5}
    setting = make_setting(FAMILY, ("digits", "flags"), method, profile=profile, task_weights=weights)
    assert controls.setting(put(controls, values, setting)) == setting


def edited(part: str, coefficient: str, value: object) -> dict[str, object]:
    return {"parts": [part], "coefficient": coefficient, "value": value}


def test_moved_factors_are_laid_over_the_profile(controls: Controls, values: Values) -> None:
    values = put(controls, values, make_setting(FAMILY, profile={"block 1/fc1": 0.5}))
    values[controls.edit] = [edited("block 1/fc1", "lambda_parallel", 0.0), edited("block 2", "", 2)]
    shape = {"lambda_parallel": 0.0, "lambda_orthogonal": 0.5, "lambda_pointwise": 0.5}
    assert controls.setting(values) == make_setting(FAMILY, profile={"block 1/fc1": shape, "block 2": 2.0})


def test_factors_of_another_methods_coefficients_wait(controls: Controls, values: Values) -> None:
    values = put(controls, values, make_setting(FAMILY, profile={"fc1": {"lambda_parallel": 0.5}, "q": 0.5}))
    ties = make_setting(FAMILY, None, "ties", profile={"q": 0.5})
    assert controls.setting({**values, controls.method: "ties"}) == ties
    assert controls.setting(values).profile == make_profile({"fc1": {"lambda_parallel": 0.5}, "q": 0.5})


def test_the_weight_of_an_expert_waits_until_he_is_ticked(controls: Controls, values: Values) -> None:
    values = put(controls, values, make_setting(FAMILY, task_weights={"digits": 0.5}))
    assert controls.setting({**values, controls.tasks: ["flags"]}).task_weights == ()
    assert controls.setting(values).task_weights[0] == 0.5


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("profile", ["fc1"]),
        ("profile", {"fc1": "much"}),
        ("profile", 5),
        ("edit", None),
        ("edit", [1]),
        ("edit", [{"parts": [["fc1"]], "coefficient": "", "value": 1}]),
        ("edit", [edited("fc1", "", math.nan)]),
        ("edit", [edited("fc1", "", None)]),
        ("edit", [edited("", "", 1)]),
        ("weights", {"digits": 1}),
        ("weights", [{"task": "digits", "value": 1e9}]),
        ("weights", [{"task": "digits"}]),
    ],
)
def test_a_bad_shape_is_refused_in_words(controls: Controls, values: Values, name: str, bad: object) -> None:
    values[getattr(controls, name)] = bad
    with pytest.raises(SettingError):
        controls.setting(values)


def test_a_slider_counts_once_its_auto_switch_is_off(controls: Controls, values: Values) -> None:
    moved = control(controls, "lambda_orthogonal")
    values[moved.widget] = 1.25
    assert controls.setting(values).value("lambda_orthogonal") == "auto"
    values[moved.auto] = False
    assert controls.setting(values).value("lambda_orthogonal") == 1.25


def coefficients() -> list[tuple[str, str]]:
    return [
        (name, spec.name)
        for name, entry in registry.methods().items()
        for spec in entry.hyperparameters
        if spec.retention
    ]


@pytest.mark.parametrize(("method", "name"), coefficients())
@pytest.mark.parametrize("value", ["retention", "retention:0.85"])
def test_auto_may_go_by_retention_wherever_the_method_can(
    controls: Controls, values: Values, method: str, name: str, value: str
) -> None:
    setting = make_setting(FAMILY, ("digits", "flags"), method, {name: value})
    shown = controls.updates(setting)
    assert controls.setting(put(controls, values, setting)) == setting
    held = next(c for c in controls.hyperparameters if (c.method, c.spec.name) == (method, name))
    assert shown[held.auto]["value"] is True
    assert value in [choice for _, choice in shown[held.rule]["choices"]]
    by_hand = {**put(controls, values, setting), held.auto: False, held.widget: 0.75}
    assert controls.setting(by_hand).value(name) == 0.75


@pytest.mark.parametrize("value", ["retention", "retention:0.85"])
def test_what_retention_came_to_is_shown(controls: Controls, value: str) -> None:
    setting = make_setting(FAMILY, hyperparameters={"lambda_orthogonal": value})
    summary = FakeWorkspace().summary(setting)
    found = dict(zip(map(id, controls.automatic), controls.resolved(setting, summary), strict=True))
    shown = found[id(control(controls, "lambda_orthogonal"))]
    assert shown is not None
    assert shown["value"] == pytest.approx(summary.coefficients["lambda_orthogonal"], rel=1e-4)


@pytest.mark.parametrize("bad", [None, "", "best", "retention:-1", "retention:x", ["auto"], {}])
def test_a_bad_rule_is_refused_in_words(controls: Controls, values: Values, bad: object) -> None:
    moved = control(controls, "lambda_orthogonal")
    with pytest.raises(SettingError):
        controls.setting({**values, moved.auto: True, moved.rule: bad})


@pytest.mark.parametrize("sent", [None, {}, [], ["ties"], "everything", 7])
def test_what_is_not_the_state_of_the_controls_is_refused_in_words(controls: Controls, sent: object) -> None:
    with pytest.raises(SettingError, match="Reload the page"):
        controls.read(sent)


def test_auto_shows_what_it_came_to(controls: Controls) -> None:
    setting = make_setting(FAMILY)
    summary = FakeWorkspace().summary(setting)
    for shown, found in zip(controls.automatic, controls.resolved(setting, summary), strict=True):
        if shown.method == setting.method and setting.value(shown.spec.name) == "auto":
            assert found is not None
            assert found["value"] == pytest.approx(summary.coefficients[shown.spec.name], rel=1e-4)
        else:
            assert found is None


def test_a_value_beyond_the_slider_widens_it(controls: Controls) -> None:
    setting = make_setting(FAMILY, hyperparameters={"lambda_orthogonal": 12.5})
    update = controls.updates(setting)[control(controls, "lambda_orthogonal").widget]
    assert update["maximum"] >= 12.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -5, 1.0, "a lot", None, [0.5], True])
def test_a_bad_number_is_refused_in_words(controls: Controls, values: Values, bad: object) -> None:
    values[control(controls, "trim_ratio").widget] = bad
    with pytest.raises(SettingError, match="trim_ratio"):
        controls.setting(values)


@pytest.mark.parametrize("tasks", [[], None, ["nonsense"], ["digits", "digits"], "digits", 5])
def test_bad_tasks_are_refused_in_words(controls: Controls, values: Values, tasks: object) -> None:
    values[controls.tasks] = tasks
    with pytest.raises(SettingError):
        controls.setting(values)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("family", "nowhere"),
        ("family", None),
        ("family", ["toy"]),
        ("method", "magic"),
        ("method", None),
        ("seed", -1),
        ("seed", 0.5),
    ],
)
def test_a_bad_family_method_or_seed_is_refused_in_words(
    controls: Controls, values: Values, name: str, bad: object
) -> None:
    values[getattr(controls, name)] = bad
    with pytest.raises(SettingError):
        controls.setting(values)


def test_comparisons_are_methods_and_pins(controls: Controls) -> None:
    setting = make_setting(FAMILY, ("digits",))
    session = Session().pin(setting)
    keys = [key for _, key in comparison_choices(session)]
    assert keys[0] == pin_key(setting)
    assert {"ties", "task_arithmetic", "none"} <= set(keys)
    assert controls.comparison(pin_key(setting), setting, session)[0] == setting
    assert controls.comparison(pin_key(setting), setting, Session())[0] is None
    baseline, _ = controls.comparison("ties", setting, session)
    assert baseline is not None
    assert baseline.method == "ties"
    assert controls.comparison("none", setting, session) == (None, "")
    with pytest.raises(SettingError):
        controls.comparison("magic", setting, session)


def test_damaged_bundled_models_are_named_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> list[str]:
        return [str(block.value) for block in build().blocks.values() if isinstance(block, gr.HTML)]

    monkeypatch.setenv("NEUROMERGE_ASSETS", str(tmp_path))
    assert any("bundled models of pictoclip are missing" in value for value in shown())
    monkeypatch.delenv("NEUROMERGE_ASSETS")
    assert not any("role='alert'" in value for value in shown())


def test_every_control_changes_together_with_its_method_s(controls: Controls) -> None:
    grouped = [component for group in controls.groups for component in group]
    assert sorted(component._id for component in grouped) == sorted(component._id for component in controls.gathered)
