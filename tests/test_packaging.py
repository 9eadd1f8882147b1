"""What a stranger meets first: the README, the pins and the files agree with one another."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import Field, fields
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from neuromerge.deployment import Deployment, Limits, variable
from neuromerge.merging.registry import methods
from neuromerge.settings.recipes import parse_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPACE_COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
LARGEST_FILE = 10 * 10**6  # a Space's repository takes larger ones through LFS only


@pytest.fixture(scope="module")
def front_matter() -> dict:
    return yaml.safe_load(README.split("---")[1])


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_the_space_is_described_as_spaces_want_it(front_matter: dict) -> None:
    assert front_matter["sdk"] == "gradio"
    assert front_matter["license"] == "apache-2.0"
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= SPACE_COLOURS
    assert len(front_matter["short_description"]) <= 60
    assert front_matter["suggested_hardware"] == "cpu-basic"
    assert isinstance(front_matter["python_version"], str)
    assert (ROOT / front_matter["app_file"]).is_file()


def test_the_space_runs_the_pinned_gradio(front_matter: dict) -> None:
    pins = (ROOT / "requirements.txt").read_text()
    assert f"gradio[mcp]=={front_matter['sdk_version']}" in pins.splitlines()


def test_the_oldest_python_that_is_promised_can_install_everything() -> None:
    floor = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert f"Python {floor} or newer" in README
    for listed in ("requirements.txt", "tests/requirements.txt"):
        lines = [line.partition("#")[0].strip() for line in (ROOT / listed).read_text().splitlines()]
        for name in [Requirement(line).name for line in lines if line and not line.startswith("-")]:
            assert floor in SpecifierSet(metadata(name).get("Requires-Python") or ""), f"{name} needs a newer Python"


def test_the_two_commands_are_in_the_readme() -> None:
    commands = "".join(code_blocks("sh"))
    assert "pip install -r requirements.txt && python app.py" in commands
    test_command = "pip install -r requirements.txt -r tests/requirements.txt && python -m pytest"
    assert test_command in commands
    assert test_command.split("&&")[1].strip() in (ROOT / ".ci" / "run").read_text()


def test_the_table_of_methods_has_every_method() -> None:
    named = re.findall(r"^\| `([a-z_]+)` \|", README, flags=re.MULTILINE)
    assert set(named) == set(methods())


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    first, shaped = (block for block in code_blocks("python") if "neuromerge.merge(" in block)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(shaped, "README.md", "exec"), {})
    assert "scale" in capsys.readouterr().out
    exec(compile(first, "README.md", "exec"), scope)
    assert "digits" in capsys.readouterr().out
    assert {"layer", "matrix", "subspace", "measure", "value"} <= set(scope["table"].columns)
    assert (tmp_path / "merged").is_dir()


def test_the_recipe_is_a_recipe() -> None:
    (recipe,) = code_blocks("yaml")
    assert parse_recipe(recipe).method == "neuromerging"


@pytest.mark.parametrize("limit", fields(Limits), ids=lambda field: field.name)
def test_every_limit_is_in_the_table_of_settings(limit: Field) -> None:
    assert f"| `NEUROMERGE_{limit.name.upper()}` | {limit.default} |" in README


def test_every_setting_of_a_deployment_is_in_the_table_of_settings() -> None:
    told = set(re.findall(r"\| `(NEUROMERGE_[A-Z_]+)` \|", README))
    hidden = {"offline", "datasets_server", "limits"}  # the Hub library's own switch; for the tests alone
    assert {variable(field.name) for field in fields(Deployment) if field.name not in hidden} <= told


def test_the_environment_is_read_in_one_place() -> None:
    for path in (ROOT / "neuromerge").rglob("*.py"):
        if path.name != "deployment.py" and "benchmarks" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"os\.(environ|getenv)", text), f"{path.name} reads the environment"


def test_the_example_of_the_api_runs(capsys) -> None:
    from neuromerge.evaluation.families import families
    from neuromerge.interface.loader import WorkspaceLoader
    from tests.interface.conftest import serving

    (example,) = (block for block in code_blocks("python") if "gradio_client" in block)
    with serving(WorkspaceLoader(), families(), Limits()) as address:
        exec(compile(example.replace("http://127.0.0.1:7860", address), "README.md", "exec"), {})
    assert "'digits'" in capsys.readouterr().out


def test_files_are_small_enough_for_a_space() -> None:
    large = [str(p.relative_to(ROOT)) for p in tracked_files() if p.is_file() and p.stat().st_size > LARGEST_FILE]
    assert not large


@pytest.mark.parametrize("module", ["torch", "transformers", "open_clip", "gradio", "plotly", "pandas", "optuna"])
def test_importing_neuromerge_is_light(module: str, loaded_by_import: set[str]) -> None:
    assert module not in loaded_by_import


@pytest.fixture(scope="module")
def loaded_by_import() -> set[str]:
    code = "import sys, neuromerge; print('\\n'.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(found.stdout.split())
