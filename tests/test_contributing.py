"""docs/contributing.md works as it stands: its code is run, and what it adds appears everywhere it says.

The examples register a method and a measure, which no other test may meet. So they are written into a folder, as the
modules that they would be, and checked by a pytest of their own (`tests/contributing/checks.py`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "contributing.md"
BLOCK = re.compile(r"^```(python|yaml)\n# (\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def examples() -> dict[str, str]:
    """The blocks of the document by the file that each says it is."""
    return {path: text for _, path, text in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))}


def test_there_is_an_example_of_each_kind() -> None:
    assert sorted(examples()) == [
        "families/mine.yaml",
        "families/tasks/weather.yaml",
        "neuromerge/interface/tabs/trim.py",
        "neuromerge/merging/baselines/median.py",
        "neuromerge/merging/measures/dominance.py",
    ]


def test_every_file_that_the_documents_name_exists() -> None:
    added = set(examples())
    for document in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"`((?:neuromerge|tests)/[\w./-]+)`", document.read_text(encoding="utf-8")):
            assert name in added or (ROOT / name).exists(), f"{document.name} names {name}"


@pytest.mark.slow
def test_what_the_examples_add_appears_everywhere(tmp_path: Path) -> None:
    for path, text in examples().items():
        target = tmp_path / path if path.endswith(".yaml") else tmp_path / "examples" / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "examples"), str(ROOT)]),
        "NEUROMERGE_FAMILIES": str(tmp_path / "families"),
    }
    checks = [str(ROOT / "tests" / "contributing" / "checks.py")]
    loaded = ["-p", "median", "-p", "dominance"]  # before anything looks at the registries
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *loaded, *checks]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
