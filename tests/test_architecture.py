"""The import graph: each room knows only the rooms before it, and no module imports itself through others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "neuromerge"
ROOMS = (
    # What everybody may use.
    ("errors", "deployment", "progress", "threads", "pages", "atomic", "folder_bounds", "json_files", "endings"),
    ("hub",),
    ("checkpoints",),
    ("merging",),
    ("evaluation",),
    ("settings",),
    ("engine",),
    ("search",),
    ("exploration",),
    ("figures",),
    ("interface",),
    ("cli", "zoo", "benchmarks"),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path, *, for_types: bool = True) -> Iterator[str]:
    """Modules of the package that the file imports, anywhere in it; `for_types`: under TYPE_CHECKING, too."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in MODULES or node.module in MODULES:
                    yield whole if whole in MODULES else str(node.module)


GRAPH = {name: sorted(set(imported(path)) - {name}) for name, path in MODULES.items()}
RUNTIME_GRAPH = {name: sorted(set(imported(path, for_types=False)) - {name}) for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_place():
    assert {room(module) for module in MODULES} - {"", "__main__"} == set(LEVEL)


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in LEVEL])
def test_a_room_knows_only_the_rooms_before_it(module):
    upwards = [other for other in GRAPH[module] if room(other) in LEVEL and LEVEL[room(other)] > LEVEL[room(module)]]
    beside = [
        other
        for other in GRAPH[module]
        if room(other) in LEVEL and LEVEL[room(other)] == LEVEL[room(module)] != 0 and room(other) != room(module)
    ]
    assert not upwards, f"{module} imports what comes after it"
    assert not beside, f"{module} imports a room beside it"


def test_no_module_imports_itself_through_others():
    visited: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            pytest.fail("imports in a circle: " + " -> ".join((*path[path.index(module) :], module)))
        if module not in visited:
            for other in RUNTIME_GRAPH[module]:
                walk(other, (*path, module))
            visited.add(module)

    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize("room_name", ["merging", "settings"])
@pytest.mark.parametrize("library", ["gradio", "plotly", "optuna", "open_clip", "transformers"])
def test_the_mathematics_needs_no_library_of_pictures_or_models(room_name, library):
    for name, path in MODULES.items():
        if room(name) == room_name:
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
            assert library not in {found.split(".")[0] for found in names}, name
