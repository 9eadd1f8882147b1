from __future__ import annotations

import math

import gradio as gr
import pytest

from neuromerge.errors import SettingError
from neuromerge.interface.app import build
from neuromerge.interface.controls import build_controls, comparison_choices, pin_key
from neuromerge.interface.session import Session
from neuromerge.merging import registry
from neuromerge.settings.choices import PRESETS, make_setting
from tests.interface.fakes import FakeWorkspace, family

FAMILY = family()
FAMILIES = {FAMILY.name: FAMILY}


@pytest.fixture(scope="module")
def controls():
    with gr.Blocks(analytics_enabled=False):
        return build_controls(FAMILIES)


@pytest.fixture
def values(controls):
    return [component.value for component in controls.inputs]


def put(controls, values, setting):
    """What the page's controls hold after `updates`."""
    for place, update in enumerate(controls.updates(setting)):
        if "value" in update:
            values[place] = update["value"]
    return values


def test_the_page_opens_with_the_first_setting(controls, values):
    assert controls.setting(values) == make_setting(FAMILY)


@pytest.mark.parametrize("method", list(registry.methods()))
def test_every_method_has_a_control_for_each_parameter(controls, values, method):
    setting = make_setting(FAMILY, ("digits", "flags"), method)
    assert controls.setting(put(controls, values, setting)) == setting


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.key)
def test_presets_go_through_the_controls_unchanged(controls, values, preset):
    setting = preset.apply(make_setting(FAMILY), FAMILY)
    assert controls.setting(put(controls, values, setting)) == setting


def control(controls, name):
    return next(c for c in controls.hyperparameters if c.method == "neuromerging" and c.spec.name == name)


def test_a_slider_counts_once_its_auto_switch_is_off(controls, values):
    moved = control(controls, "lambda_orthogonal")
    values[controls.inputs.index(moved.widget)] = 1.25
    assert controls.setting(values).value("lambda_orthogonal") == "auto"
    values[controls.inputs.index(moved.auto)] = False
    assert controls.setting(values).value("lambda_orthogonal") == 1.25


@pytest.mark.parametrize("sent", [None, {}, [], ["ties"], "everything", 7])
def test_what_is_not_the_state_of_the_controls_is_refused_in_words(controls, sent):
    with pytest.raises(SettingError, match="Reload the page"):
        controls.held(sent)


def test_auto_shows_what_it_came_to(controls):
    setting = make_setting(FAMILY)
    summary = FakeWorkspace().summary(setting)
    shown = dict(zip(controls.auto_widgets, controls.resolved(setting, summary), strict=True))
    assert shown[control(controls, "lambda_orthogonal").widget]["value"] == round(
        summary.coefficients["lambda_orthogonal"], 4
    )


def test_a_value_beyond_the_slider_widens_it(controls):
    setting = make_setting(FAMILY, hyperparameters={"lambda_orthogonal": 12.5})
    place = controls.inputs.index(control(controls, "lambda_orthogonal").widget)
    update = controls.updates(setting)[place]
    assert update["maximum"] >= 12.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -5, 1.0, "a lot", None, [0.5], True])
def test_a_bad_number_is_refused_in_words(controls, values, bad):
    values[controls.inputs.index(control(controls, "trim_ratio").widget)] = bad
    with pytest.raises(SettingError, match="trim_ratio"):
        controls.setting(values)


@pytest.mark.parametrize("tasks", [[], None, ["nonsense"], ["digits", "digits"], "digits", 5])
def test_bad_tasks_are_refused_in_words(controls, values, tasks):
    values[1] = tasks
    with pytest.raises(SettingError):
        controls.setting(values)


@pytest.mark.parametrize(
    ("place", "bad"), [(0, "nowhere"), (0, None), (0, ["toy"]), (2, "magic"), (2, None), (3, -1), (3, 0.5)]
)
def test_a_bad_family_method_or_seed_is_refused_in_words(controls, values, place, bad):
    values[place] = bad
    with pytest.raises(SettingError):
        controls.setting(values)


def test_comparisons_are_methods_and_pins(controls):
    setting = make_setting(FAMILY, ("digits",))
    session = Session().pin(setting)
    keys = [key for _, key in comparison_choices(session)]
    assert keys[0] == pin_key(setting)
    assert {"ties", "task_arithmetic", "none"} <= set(keys)
    assert controls.comparison(pin_key(setting), setting, session)[0] == setting
    assert controls.comparison(pin_key(setting), setting, Session())[0] is None
    assert controls.comparison("ties", setting, session)[0].method == "ties"
    assert controls.comparison("none", setting, session) == (None, "")
    with pytest.raises(SettingError):
        controls.comparison("magic", setting, session)


def test_damaged_bundled_models_are_named_on_the_page(tmp_path, monkeypatch):
    def shown():
        return [block.value for block in build().blocks.values() if isinstance(block, gr.HTML)]

    monkeypatch.setenv("NEUROMERGE_ASSETS", str(tmp_path))
    assert any("bundled models of pictoclip are missing" in str(value) for value in shown())
    monkeypatch.delenv("NEUROMERGE_ASSETS")
    assert not any("role='alert'" in str(value) for value in shown())
