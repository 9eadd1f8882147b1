"""What the examples of docs/contributing.md add, looked for in every place that the document names.

Run by `tests/test_contributing.py`, with the examples on the path and registered.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import torch
from safetensors.torch import load_file, save_file
from trim import TrimState, TrimTab  # type: ignore[import-not-found]

import neuromerge
from neuromerge import cli
from neuromerge.benchmarks.clients import Client
from neuromerge.evaluation.families import families, get_family
from neuromerge.exploration.workspace import Workspace
from neuromerge.figures.interference import interference_heatmaps
from neuromerge.interface import permalinks
from neuromerge.interface.app import build
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.interface.permalinks import PageState
from neuromerge.interface.tabs import STATES, TABS
from neuromerge.interface.tabs.interference import InterferenceState
from neuromerge.search.axes import axes_of
from neuromerge.search.entries import BUDGET, entries
from neuromerge.settings.choices import make_setting
from neuromerge.settings.recipes import dump_recipe, parse_recipe, recipe_of
from tests.interface import fakes
from tests.interface.conftest import served

ALL = (*TABS, TrimTab)


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """A base and three experts, as files."""
    generator = torch.Generator().manual_seed(0)
    base = {"layers.0.fc1.weight": torch.randn(6, 5, generator=generator)}
    paths = []
    for name in ("base", "one", "two", "three"):
        state = {key: value + 0.1 * torch.randn(value.shape, generator=generator) for key, value in base.items()}
        paths.append(str(tmp_path / f"{name}.safetensors"))
        save_file(state, paths[-1])
    return paths


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


# ------------------------------------------------------------------------------------------------- the method


def median_of(models: list[str], scale: float) -> torch.Tensor:
    base, *experts = (load_file(path)["layers.0.fc1.weight"] for path in models)
    return base + scale * torch.stack([expert - base for expert in experts]).median(0).values


def test_method_in_the_library_and_on_the_command_line(models, tmp_path, capsys) -> None:
    assert "median" in neuromerge.methods()
    merged = neuromerge.merge(models[0], models[1:], method="median", scale=0.7).state_dict["layers.0.fc1.weight"]
    torch.testing.assert_close(merged, median_of(models, 0.7))
    out = str(tmp_path / "out.safetensors")
    run(
        capsys,
        "merge",
        "--base",
        models[0],
        "--task",
        *models[1:],
        "--method",
        "median",
        "--scale",
        "0.5",
        "--out",
        out,
    )
    torch.testing.assert_close(load_file(out)["layers.0.fc1.weight"], median_of(models, 0.5))
    assert "Adds the median" in run(capsys, "methods", "median")
    assert "median" in {method["name"] for method in json.loads(run(capsys, "methods", "--json"))}


def test_method_in_recipes_and_links() -> None:
    family = get_family("pictoclip")
    setting = make_setting(family, ["digits", "flags"], "median", {"scale": 0.6})
    recipe = parse_recipe(dump_recipe(recipe_of(setting, family)))
    assert recipe.method == "median"
    assert dict(recipe.hyperparameters) == {"scale": 0.6}
    fresh = {key: kind() for key, kind in STATES.items()}
    state = PageState(setting, states=fresh)
    assert permalinks.decode(permalinks.encode(state, STATES), {family.name: family}, STATES) == (state, ())


def test_method_live_in_searches_and_in_comparisons() -> None:
    family = get_family("pictoclip")
    setting = make_setting(family, ["digits", "flags", "letters"], "median", {"scale": 0.9})
    workspace = Workspace({family.name: family})
    board = workspace.board(setting, "quick")
    base, *experts = (neuromerge.load_checkpoint(family.source(task)) for task in (None, *setting.tasks))
    merged = neuromerge.merge(base, experts, method="median", scale=0.9)
    expected = neuromerge.evaluate(merged, list(setting.tasks), "quick", family, experts=False)
    assert {task: board.merge[task].correct for task in setting.tasks} == {
        row.task: row.correct for row in expected.rows
    }
    assert [axis.name for axis in axes_of("median")] == ["scale"]
    (entry,) = entries(["median"])
    assert len(entry.grid()) == BUDGET


# ------------------------------------------------------------------------------------------------ the measure


def test_measure_in_the_table_and_on_the_command_line(models, capsys) -> None:
    table = neuromerge.interference(models[0], models[1:], trim_ratio=0.0)
    values = table[table["measure"] == "dominance"]["value"].dropna()
    assert len(values)
    assert values.between(1 / 3, 1).all()
    task = ["--task", *models[1:]]
    assert "dominance, orthogonal part" in run(
        capsys, "interference", "--base", models[0], *task, "--measure", "dominance"
    )


def test_measure_in_the_figure_and_in_links() -> None:
    family = get_family("pictoclip")
    setting = make_setting(family, ["digits", "flags"])
    heatmap = Workspace({family.name: family}).heatmap(setting, "dominance")
    drawn = interference_heatmaps(heatmap, tasks=len(setting.tasks)).to_json()
    assert "Dominance" in drawn
    assert "one task asks for most of it" in drawn
    fresh = {key: kind() for key, kind in STATES.items()}
    state = PageState(setting, states={**fresh, "interference": InterferenceState("dominance")})
    query = permalinks.encode(state, STATES)
    assert parse_qs(query)["measure"] == ["dominance"]
    assert permalinks.decode(query, {family.name: family}, STATES) == (state, ())


# --------------------------------------------------------------------------------------- the page and its API


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page with the example's tab, over a workspace of formulas."""
    family = fakes.family()
    with served(build(fakes.loader(), {family.name: family}, tabs=ALL)) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    client = Client(address)
    client.load()
    yield client
    client.close()


def test_tab_is_drawn_and_linked(client: Client) -> None:
    assert client.fire("tab-trim", "select") == []
    assert "20.0%" in client.value("trim-text")
    client.values[client.ids["trim-unit"]] = "share"
    assert client.fire("trim-unit", "change") == []
    assert "0.200" in client.value("trim-text")
    assert client.fire("tab-export", "select") == []
    assert parse_qs(client.value("export-link"))["unit"] == ["share"]
    family, states = fakes.family(), {tab.key: tab.state for tab in ALL}
    page, messages = permalinks.decode("tab=trim&unit=share", {family.name: family}, states)
    assert (page.tab, page.states["trim"], messages) == ("trim", TrimState("share"), ())


def test_method_and_measure_in_menus_and_in_the_api(client: Client, address: str) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    api = gradio_client.Client(address, verbose=False)
    told = api.predict(["digits"], "median", {"scale": 0.4}, api_name="/merge_summary")
    assert (told["method"], told["parameters"]) == ("median", {"scale": 0.4})
    assert {"layer", "parallel"} <= set(api.predict("dominance", api_name="/interference")[0])
    with urllib.request.urlopen(f"{address.rstrip('/')}/gradio_api/mcp/schema", timeout=60) as answer:
        described = answer.read().decode()
    assert "dominance" in described
    assert "median" in described
    page = json.dumps(client.config)
    assert '["Median", "median"]' in page
    assert '["Dominance", "dominance"]' in page


# ------------------------------------------------------------------------------------- the family and its task


def test_family_and_task_are_known_everywhere(capsys) -> None:
    family = families()["mine"]
    assert list(family.experts) == ["weather", "mnist"]
    assert family.task("weather").classes == ("clear sky", "rain", "snow")
    assert family.task("mnist").classes[0] == "0"
    told = run(capsys, "models")
    assert "My two experts" in told
    assert "weather  bundled:pictoclip/digits" in told
    assert "mine" in {entry["name"] for entry in json.loads(run(capsys, "models", "--json"))}
    setting = make_setting(family)
    assert Workspace().summary(setting).neurons > 0
    assert parse_recipe(dump_recipe(recipe_of(setting, family))).models[0].name == "weather"
    page: Any = build(WorkspaceLoader(fakes.FakeWorkspace))
    assert '["My two experts", "mine"]' in json.dumps(page.config, default=str)


def test_task_has_a_head_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from neuromerge.evaluation import load_samples

    family = families()["mine"]
    folder = family.task("weather").samples.path
    assert folder is not None
    for name in ("clear_sky", "rain", "snow"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            Image.new("RGB", (32, 32), (60 * number, 10, 20)).save(folder / name / f"{number}.png")
    assert load_samples(family, "weather", "test").classes == ("clear sky", "rain", "snow")
    table = neuromerge.evaluate(family.base, ["weather"], "test", family, experts=False)
    assert table["weather"].n > 0
