"""The command line: what it prints, what it writes, and that bad input costs one line and exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import neuromerge
from neuromerge import cli
from neuromerge.cli.parser import VERBS, build_parser
from neuromerge.errors import Cancelled
from neuromerge.merging.registry import methods


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two experts of a tiny network, as files."""
    folder = tmp_path_factory.mktemp("zoo")
    generator = torch.Generator().manual_seed(0)
    shapes = {"layers.0.fc1.weight": (6, 4), "layers.0.fc1.bias": (6,), "layers.1.fc1.weight": (3, 6)}
    base = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    save_file(base, folder / "base.safetensors")
    for name in ("one", "two"):
        expert = {k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in base.items()}
        save_file(expert, folder / f"{name}.safetensors")
    (folder / "recipe.yaml").write_text(
        "merge_method: neuromerging\n"
        f"base_model: {folder / 'base.safetensors'}\n"
        "models:\n"
        f"  - model: {folder / 'one.safetensors'}\n"
        f"  - model: {folder / 'two.safetensors'}\n"
        "parameters:\n  trim_ratio: 0.5\n  lambda_parallel: 0.2\n"
    )
    return folder


def sources(zoo: Path) -> list[str]:
    names = ("base", "one", "two")
    base, one, two = (str(zoo / f"{name}.safetensors") for name in names)
    return ["--base", base, "--task", one, "--task", two]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_steps_and_retention_by_option(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "steps"
    given = ["--method", "task_arithmetic", "--scale", "retention:0.85", "--then", "svc:0.4", "--then", "lines:0.2:0.6"]
    code, text, _ = run(capsys, "merge", *sources(zoo), *given, "--out", str(out), "--json", "-q")
    assert code == 0
    told = json.loads(text)
    assert told["parameters"]["scale"] == "retention:0.85"
    assert told["then"] == ["lines:0.2:0.6", "svc:0.4"]
    assert set(told["retention"]) == {"one", "two"}
    base, experts = str(zoo / "base.safetensors"), [str(zoo / f"{name}.safetensors") for name in ("one", "two")]
    merged = neuromerge.merge(
        base, experts, "task_arithmetic", scale="retention:0.85", then=["svc:0.4", "lines:0.2:0.6"]
    )
    written = load_file(next(out.glob("*.safetensors")))
    for key, weight in merged.state_dict.items():
        assert torch.equal(written[key], weight)
    code, _, error = run(capsys, "merge", *sources(zoo), "--then", "sorting", "--out", str(tmp_path / "no"))
    assert code != 0
    assert "svc:0.1" in error


def test_merge_writes_what_the_library_merges(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "merged"
    code, text, error = run(capsys, "merge", *sources(zoo), "--trim-ratio", "0.5", "--out", str(out))
    assert (code, error) == (0, "")
    assert "Merged 2 experts with neuromerging" in text
    assert "sigma" in text
    base, *experts = (zoo / f"{name}.safetensors" for name in ("base", "one", "two"))
    expected = neuromerge.merge(base, experts, trim_ratio=0.5).state_dict
    written = load_file(out / "model.safetensors")
    assert set(written) == set(expected)
    for key, value in expected.items():
        assert torch.equal(written[key], value), key


def test_merge_from_a_recipe(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(zoo / "recipe.yaml")
    code, text, _ = run(capsys, "merge", recipe, "--out", str(tmp_path / "a"), "--json")
    assert code == 0
    summary = json.loads(text)
    assert summary["parameters"]["trim_ratio"] == 0.5
    assert summary["lambda_parallel"] == 0.2
    assert summary["seed"] == 0
    # Options on the line win over the recipe.
    code, text, _ = run(capsys, "merge", recipe, "--trim-ratio", "0.25", "--out", str(tmp_path / "b"), "--json")
    assert code == 0
    assert json.loads(text)["parameters"]["trim_ratio"] == 0.25


@pytest.mark.parametrize("method", ["ties", "dare", "average", "tsv_m"])
def test_other_methods(method: str, zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "merge", *sources(zoo), "--method", method, "--out", str(tmp_path / "out"), "--json")
    assert code == 0
    assert json.loads(text)["method"] == method


def test_a_single_file_in_half_precision(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "merged.safetensors"
    assert run(capsys, "merge", *sources(zoo), "--dtype", "float16", "--out", str(out))[0] == 0
    assert {value.dtype for value in load_file(out).values()} == {torch.float16}


BAD = {
    "no command": [],
    "unknown command": ["mrge"],
    "no output": ["merge", "--base", "b", "--task", "t"],
    "no base": ["merge", "--out", "o"],
    "missing file": ["merge", "--base", "nowhere.safetensors", "--task", "t", "--out", "o"],
    "no such device": ["merge", "{sources}", "--device", "gpu", "--out", "o"],
    "a device that is not here": ["merge", "{sources}", "--device", "cuda:99", "--out", "o"],
    "a device without values": ["merge", "{sources}", "--device", "meta", "--out", "o"],
    "no device": ["merge", "{sources}", "--device", "", "--out", "o"],
    "a null byte in the folder": ["merge", "{sources}", "--out", "o\0p"],
    "a null byte in the file": ["merge", "{sources}", "--out", "o\0p.safetensors"],
    "a null byte in the base": ["merge", "--base", "b\0c", "--task", "t\0u", "--out", "o"],
    "a null byte in the recipe": ["merge", "r\0.yaml", "--out", "o"],
    "a null byte to inspect": ["inspect", "c\0d"],
    "missing recipe": ["merge", "nowhere.yaml", "--out", "o"],
    "recipe and base": ["merge", "r.yaml", "--base", "b", "--task", "t", "--out", "o"],
    "unknown method": ["merge", "{sources}", "--method", "magic", "--out", "o"],
    "trim out of range": ["merge", "{sources}", "--trim-ratio", "1", "--out", "o"],
    "no number": ["merge", "{sources}", "--lambda-orthogonal", "much", "--out", "o"],
    "foreign parameter": ["merge", "{sources}", "--method", "average", "--trim-ratio", "0.5", "--out", "o"],
    "unknown option": ["merge", "{sources}", "--trimratio", "0.5", "--out", "o"],
    "unknown dtype": ["merge", "{sources}", "--dtype", "int8", "--out", "o"],
    "no clip to convert": ["merge", "{sources}", "--layout", "open_clip", "--out", "o"],
    "negative seed": ["merge", "{sources}", "--seed", "-1", "--out", "o"],
    "unknown measure": ["interference", "{sources}", "--measure", "magic"],
    "interference without base": ["interference"],
    "interference trim": ["interference", "{sources}", "--trim-ratio", "2"],
    "csv in no folder": ["interference", "{sources}", "--csv", "nowhere/table.csv"],
    "unknown family": ["sweep", "--family", "magic", "--trials", "1"],
    "searched and set": ["sweep", "--range", "trim_ratio=0:0.9", "--set", "trim_ratio=0.5", "--trials", "1"],
    "csv is a folder": ["interference", "{sources}", "--csv", ".."],
    "own pictures with labels": ["sweep", "--pictures", "mine.zip"],
    "classes of no pictures": ["sweep", "--goal", "certainty", "--classes-of", "digits"],
    "weights of own pictures": ["sweep", "--goal", "certainty", "--pictures", "m.zip", "--goal-weight", "digits=2"],
    "pictures that are not there": ["sweep", "--goal", "certainty", "--pictures", "nowhere.zip", "--trials", "1"],
    "groups and a curve": ["sweep", "--group", "q,k", "--shape", "depth:2"],
    "a shape of no groups": ["sweep", "--shape", "own"],
    "bad range": ["sweep", "--range", "trim_ratio=high"],
    "unknown method name": ["methods", "magic"],
    "evaluate nothing": ["evaluate", "nowhere.safetensors"],
    "bundled nothing": ["evaluate", "bundled:nothing"],
    "bad images": ["evaluate", "x", "--images", "mnist"],
    "images twice": ["evaluate", "bundled:pictoclip", "--images", "digits=a", "--images", "digits=b"],
    "images of another task": ["evaluate", "bundled:pictoclip", "--tasks", "digits", "--images", "didgits=a"],
    "port": ["app", "--port", "99999"],
    "hub address": ["convert", "hub:nothing", "--out", "o"],
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expanded = [word for argument in arguments for word in (sources(zoo) if argument == "{sources}" else [argument])]
    code, out, error = run(capsys, *expanded)
    assert code == 2
    assert out == ""
    assert error.startswith("neuromerge")
    assert error.count("\n") == 1
    assert error.endswith(".\n")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


LONG = "x" * 5000
LONG_WORDS = {
    "command": [LONG],
    "option": ["merge", f"--{LONG}", "--out", "o"],
    "choice": ["merge", "{sources}", "--layout", LONG, "--out", "o"],
    "folder": ["merge", "{sources}", "--out", LONG],
    "recipe": ["merge", LONG, "--out", "o"],
    "checkpoint": ["inspect", LONG],
    "method": ["merge", "{sources}", "--method", LONG, "--out", "o"],
    "device": ["merge", "{sources}", "--device", LONG, "--out", "o"],
    "dtype": ["merge", "{sources}", "--dtype", LONG, "--out", "o"],
    "number": ["merge", "{sources}", "--trim-ratio", LONG, "--out", "o"],
    "seed": ["merge", "{sources}", "--seed", "9" * 5000, "--out", "o"],
    "step": ["merge", "{sources}", "--then", LONG, "--out", "o"],
    "part": ["merge", "{sources}", "--profile", f"{LONG}=1", "--out", "o"],
    "weight": ["merge", "{sources}", "--weight", f"{LONG}=1", "--out", "o"],
    "family": ["sweep", "--family", LONG],
    "task": ["evaluate", "bundled:pictoclip", "--tasks", LONG],
    "measure": ["interference", "{sources}", "--measure", LONG],
}


@pytest.mark.parametrize("arguments", LONG_WORDS.values(), ids=LONG_WORDS.keys())
def test_a_complaint_does_not_repeat_a_whole_input(
    arguments: list[str], zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expanded = [word for argument in arguments for word in (sources(zoo) if argument == "{sources}" else [argument])]
    code, out, error = run(capsys, *expanded)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert len(error) < 1100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", methods())
def test_values_whose_sum_overflows_are_one_line(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for name, value in (("base", 0.0), ("one", 3e38), ("two", 3.1e38)):
        paths.append(str(tmp_path / f"{name}.safetensors"))
        save_file({"w.weight": torch.full((4, 4), value), "v.weight": torch.full((6, 4), -value)}, paths[-1])
    out = tmp_path / "out.safetensors"
    chosen = ["--method", method, *(["--steps", "3"] if method == "wudi" else [])]
    code, _, error = run(capsys, "merge", "--base", paths[0], "--task", *paths[1:], *chosen, "--out", str(out))
    assert code in (0, 2)
    assert error.count("\n") == (code == 2)
    assert out.exists() == (code == 0)
    if code == 0:
        assert all(bool(torch.isfinite(value).all()) for value in load_file(out).values())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for arguments in (
        ["merge", str(pipe), "--out", "o"],
        ["inspect", str(pipe)],
        ["inspect", "x", "--base", str(pipe)],
    ):
        code, _, error = run(capsys, *arguments)
        assert (code, error.count("\n")) == (2, 1)


@pytest.mark.parametrize("name", ["b" * 5000, "d\0.safetensors", "../d.safetensors", "", 5])
def test_an_index_that_names_no_file(name: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a" * 5000: name}}))
    code, _, error = run(capsys, "inspect", str(tmp_path))
    assert (code, error.count("\n")) == (2, 1)


def test_profile_and_weights(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--profile", "fc1=0.5,1.5", "--profile", "block 1=2", "--weight", "one=1.2"]
    shape += ["--profile", "block 0/fc1:lambda_parallel=0", "--profile", "block 0/fc1:lambda_orthogonal=3"]
    values = ["--lambda-parallel", "0.5", "--lambda-orthogonal", "1"]
    code, _, error = run(capsys, "merge", *sources(zoo), *values, *shape, "--out", str(tmp_path / "merged"))
    assert (code, error) == (0, "")
    base, *experts = (zoo / f"{name}.safetensors" for name in ("base", "one", "two"))
    expected = neuromerge.merge(
        base,
        experts,
        lambda_parallel=0.5,
        lambda_orthogonal=1.0,
        profile={
            "fc1": [0.5, 1.5],
            "block 1": 2.0,
            "block 0/fc1": {"lambda_parallel": 0.0, "lambda_orthogonal": 3.0},
        },
        task_weights={"one": 1.2},
    )
    (written,) = (tmp_path / "merged").glob("*.safetensors")
    for name, weight in load_file(written).items():
        torch.testing.assert_close(weight, expected.state_dict[name])
    recipe = zoo / "shaped.yaml"
    text = (zoo / "recipe.yaml").read_text() + "profile: {fc1: [0.5, 1.5]}\n"
    recipe.write_text(text.replace("one.safetensors\n", "one.safetensors\n    weight: 1.2\n"))
    code, told, _ = run(capsys, "merge", str(recipe), "--out", str(tmp_path / "other"), "--json")
    assert code == 0
    assert json.loads(told)["profile"] == {"fc1": [0.5, 1.5]}
    assert json.loads(told)["task_weights"] == {"one": 1.2, "two": 1.0}


def test_interference_as_text_csv_and_json(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "interference", *sources(zoo))
    assert code == 0
    assert "cancellation, orthogonal part" in text
    assert "block 0" in text
    table = tmp_path / "table.csv"
    assert run(capsys, "interference", *sources(zoo), "--csv", str(table))[0] == 0
    lines = table.read_text().splitlines()
    assert lines[0] == "layer,matrix,subspace,measure,value"
    code, text, _ = run(capsys, "interference", *sources(zoo), "--json")
    assert code == 0
    assert len(json.loads(text)) == len(lines) - 1  # strict JSON: NaN would not parse everywhere, null does
    assert "NaN" not in text


def test_interference_of_both_towers_and_what_there_is_to_know(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, told = run(capsys, "interference", *sources(zoo), "--task", str(zoo / "base.safetensors"))
    assert code == 0
    assert "warning: " in told
    assert "is the same as the base" in told
    assert run(capsys, "interference", *sources(zoo), "--vocabulary", "shared")[0] == 0
    assert run(capsys, "interference", *sources(zoo), "--towers", "both")[0] == 2  # it has but one


def test_inspect(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, error = run(capsys, "inspect", str(zoo / "one.safetensors"), "--base", str(zoo / "base.safetensors"))
    assert (code, error) == (0, "")
    assert "safetensors file" in text
    assert "fits" in text
    assert "block 1" in text
    arguments = ["inspect", str(zoo / "one.safetensors"), "--base", str(zoo / "base.safetensors"), "--json"]
    told = json.loads(run(capsys, *arguments)[1])
    assert told["merged"] == 6 * 4 + 6 + 3 * 6
    assert [change["layer"] for change in told["changes"]] == ["block 0", "block 1"]
    assert all(change["relative"] > 0 for change in told["changes"])
    assert run(capsys, "inspect", str(zoo / "one.safetensors"))[0] == 0


def test_inspect_says_what_does_not_fit(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"other.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    arguments = ["inspect", str(tmp_path / "other.safetensors"), "--base", str(zoo / "base.safetensors")]
    code, text, _ = run(capsys, *arguments)
    assert code == 2
    assert "does not fit" in text
    assert "other.weight" in text


def test_several_experts_after_one_option(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, one, two = (str(zoo / f"{name}.safetensors") for name in ("base", "one", "two"))
    code, text, error = run(capsys, "merge", "--base", base, "--task", one, two, "--out", str(tmp_path / "m"))
    assert (code, error) == (0, "")
    assert "Merged 2 experts" in text
    code, _, error = run(capsys, "merge", one, "--base", base, "--task", two, "--out", str(tmp_path / "n"))
    assert code == 2
    assert "write --task before it" in error


def test_an_expert_that_equals_the_base_is_told(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, one = (str(zoo / f"{name}.safetensors") for name in ("base", "one"))
    arguments = ["merge", "--base", base, "--task", base, one, "--out", str(tmp_path / "m")]
    code, text, _ = run(capsys, *arguments)
    assert code == 0
    assert "warning: base is the same as the base" in text
    told = json.loads(run(capsys, *arguments, "--json")[1])
    assert len(told["warnings"]) == 1


def test_home_is_found_everywhere(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(zoo))
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "merge", "~/recipe.yaml", "--out", "~/from-recipe")[0] == 0
    assert (
        run(capsys, "merge", "--base=~/base.safetensors", "--task=~/one.safetensors", "--out=~/m.safetensors")[0] == 0
    )
    pair = ["--base=~/base.safetensors", "--task", "~/one.safetensors", "~/two.safetensors"]
    assert run(capsys, "interference", *pair, "--csv=~/i.csv")[0] == 0
    assert (zoo / "from-recipe").is_dir()
    assert (zoo / "m.safetensors").is_file()
    assert (zoo / "i.csv").is_file()
    assert list(tmp_path.iterdir()) == []


def test_methods_and_models_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "methods", "--json")
    assert code == 0
    assert "neuromerging" in {method["name"] for method in json.loads(text)}
    assert "lambda" in run(capsys, "methods", "neuromerging")[1]
    code, text, _ = run(capsys, "models", "--json")
    assert code == 0
    assert isinstance(json.loads(text), list)
    code, text, _ = run(capsys, "models")
    assert code == 0
    assert "of at most 2,000" in text.splitlines()[-1], "disk use is bounded and told"


def test_several_experts_may_follow_one_option(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, one, two = (str(zoo / f"{name}.safetensors") for name in ("base", "one", "two"))
    code, text, _ = run(capsys, "merge", "--base", base, "--task", one, two, "--out", str(tmp_path / "a"), "--json")
    assert code == 0
    assert len(json.loads(text)["task_names"]) == 2


def test_names_are_separated_by_commas_or_spaces() -> None:
    arguments = ["sweep", "--tasks", "a,b", "c", "--tasks", "d", "--set", "x=1", "y-z=2", "--search", "u", "v"]
    options = build_parser(arguments).parse_args(arguments)
    assert options.tasks == ["a", "b", "c", "d"]
    assert options.set == [("x", "1"), ("y_z", "2")]
    assert options.search == ["u", "v"]


def test_the_home_folder_is_understood_in_paths_of_files(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(capsys, "interference", *sources(zoo), "--csv=~/table.csv")[0] == 0
    assert (tmp_path / "table.csv").is_file()
    (tmp_path / "recipe.yaml").write_text((zoo / "recipe.yaml").read_text())
    assert run(capsys, "merge", "~/recipe.yaml", "--out", str(tmp_path / "merged"))[0] == 0


def test_how_a_recipe_was_read_is_told(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    plain = (zoo / "recipe.yaml").read_text().replace("neuromerging", "ties").split("parameters:")[0]
    recipe.write_text(plain + "parameters: {density: 0.5, int8_mask: true}\ndtype: float16\n")
    code, text, _ = run(capsys, "merge", str(recipe), "--out", str(tmp_path / "a"))
    assert code == 0
    assert "note: density 0.5 is read as trim_ratio 0.5" in text
    assert {value.dtype for value in load_file(tmp_path / "a" / "model.safetensors").values()} == {torch.float16}
    code, text, _ = run(capsys, "merge", str(recipe), "--method", "dare", "--out", str(tmp_path / "b"), "--json")
    assert code == 0
    assert "the recipe's parameters are those of ties and are not used for dare" in json.loads(text)["notes"]


def test_convert(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "copy"
    code, text, _ = run(capsys, "convert", str(zoo / "one.safetensors"), "--out", str(out))
    assert code == 0
    assert str(out / "model.safetensors") in text.splitlines()
    assert torch.equal(
        load_file(out / "model.safetensors")["layers.0.fc1.bias"],
        load_file(zoo / "one.safetensors")["layers.0.fc1.bias"],
    )


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    main_help = run(capsys, "--help")[1]
    for command in VERBS:
        assert command in main_help
        code, text, _ = run(capsys, command, "--help")
        assert code == 0
        assert "usage: neuromerge" in text
    assert "--trim-ratio" in run(capsys, "merge", "--help")[1]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--profile", "fc1"], "expected PART=FACTOR"),
        (["--profile", "fc1=half"], "expected PART=FACTOR"),
        (["--profile", "fc1=1", "--profile", "fc1=2"], "names fc1 twice"),
        (["--profile", "fc9=1"], "no part 'fc9'"),
        (["--weight", "one=much"], "expected TASK=WEIGHT"),
        (["--weight", "zero=1"], "'zero' has a weight, but is not merged"),
    ],
)
def test_a_profile_that_is_none(
    option: list[str], message: str, zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code, _, error = run(capsys, "merge", *sources(zoo), *option, "--out", str(tmp_path / "none"))
    except SystemExit as stop:
        code, error = int(stop.code or 0), capsys.readouterr().err
    assert code == 2
    assert message in error
    assert not (tmp_path / "none").exists()


def test_stopping_says_so(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(neuromerge, "merge", interrupted, raising=False)
    assert run(capsys, "merge", *sources(zoo), "--out", str(tmp_path / "o")) == (130, "", "neuromerge: stopped.\n")


_SLOW_TO_WRITE = """
import sys, time
from neuromerge.checkpoints.writer import CheckpointWriter
from neuromerge.cli import main
write = CheckpointWriter.write
def slow(*given):
    write(*given)
    print("begun", flush=True)
    time.sleep(60)
CheckpointWriter.write = slow
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows ends a process at once")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_nothing_half_written(name: str, zoo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SLOW_TO_WRITE, "merge", *sources(zoo), "--out", str(tmp_path / "o" / "merged")]
    (tmp_path / "o").mkdir()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert list((tmp_path / "o").iterdir())
        process.send_signal(getattr(signal, name))
        assert process.wait(30) == 130
    assert list((tmp_path / "o").iterdir()) == []


def test_an_error_is_one_line_even_when_its_message_is_not(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object, **kwargs: object) -> None:
        raise Cancelled("first\nsecond")

    monkeypatch.setattr(neuromerge, "merge", failing, raising=False)
    assert run(capsys, "merge", *sources(zoo), "--out", str(tmp_path / "o"))[2] == "neuromerge: first second.\n"


def test_help_needs_no_heavy_imports() -> None:
    code = (
        "import sys; from neuromerge.cli import main; main(['--help']); main(['evaluate', '--help']);"
        "heavy = {'torch', 'gradio', 'transformers', 'open_clip', 'pandas', 'optuna', 'numpy'} & set(sys.modules);"
        "sys.exit(1 if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_where_memory_runs_out_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def huge(*_: object, **__: object) -> None:
        torch.empty(2**58)

    monkeypatch.setattr("neuromerge.cli.merge.run", huge)
    code, _, said = run(capsys, "merge", "--base", "a", "--task", "b", "--out", "c")
    assert code == 2
    assert "not enough memory" in said
    assert said.count("\n") == 1


def test_effect_measures_layers_and_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "effects.csv"
    asked = ["effect", "--tasks", "digits,flags", "--changes", "0", "--layers", "--quiet", "--csv", str(table)]
    assert cli.main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"]
    assert {effect["matrix"] for effect in found["effects"]} == {""}
    assert found["effects"][0].keys() >= {"layer", "times", "difference", "standard_error", "p", "difference_flags"}
    assert len(table.read_text().splitlines()) == 1 + len(found["effects"])
    assert cli.main(asked) == 0
    assert "left at the base" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--changes", "x"], "numbers separated by commas"),
        (["--profile", "block 99=0", "--quiet"], "no part 'block 99'"),
        (["recipe.yaml", "--set", "trim_ratio=0"], "leave out --tasks, --set and --profile"),
    ],
)
def test_effect_says_what_is_wrong(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(["effect", *options])
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_the_apps_own_file_takes_the_commands_options_and_refuses_others() -> None:
    root = Path(__file__).resolve().parents[1]
    ended = subprocess.run([sys.executable, "app.py", "--prot", "1"], cwd=root, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "--prot" in ended.stderr
