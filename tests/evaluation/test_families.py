"""The registry: every file is complete, counts are right, and a user's folder becomes a family."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from neuromerge.checkpoints import load_checkpoint
from neuromerge.errors import AssetError, LimitError, SettingError
from neuromerge.evaluation import families as registry
from neuromerge.evaluation.families import get_family, local_family, read_task
from neuromerge.hub.addresses import parse_hub

PAPER = {
    "sun397": 397,
    "stanford-cars": 196,
    "resisc45": 45,
    "eurosat": 10,
    "svhn": 10,
    "gtsrb": 43,
    "mnist": 10,
    "dtd": 47,
}
FURTHER = {
    "oxford_flowers102": 102,
    "pcam": 2,
    "fer2013": 7,
    "oxford-iiit-pet": 37,
    "stl10": 10,
    "cifar100": 100,
    "cifar10": 10,
    "food101": 101,
    "fashion_mnist": 10,
    "emnist_letters": 26,
    "kmnist": 10,
    "rendered-sst2": 2,
}
ONLINE = ("clip-vit-base-patch32", "clip-vit-base-patch16", "clip-vit-large-patch14")


@pytest.mark.parametrize("name", ONLINE)
def test_online_families_are_complete(name):
    family = get_family(name)
    assert {task: len(spec.classes) for task, spec in family.tasks.items()} == PAPER | FURTHER
    assert family.default_tasks == tuple(PAPER)
    assert set(family.experts) == set(family.tasks)
    assert family.online
    for task in family.experts:
        repository, inside, revision = parse_hub(family.source(task))
        assert repository == f"tanganke/{name}_{task}"
        assert (inside, revision) == ("model.safetensors", "main")
    assert re.fullmatch(r"[0-9a-f]{40}", parse_hub(family.source())[2] or ""), "the base is pinned to a commit"
    for entry in family.entries.values():
        assert entry.file.endswith(".safetensors")
        assert not entry.tried, "say so in the registry once it has been loaded online"


def test_a_data_set_is_pinned_to_a_commit(tmp_path):
    pinned = registry.TASKS / "mnist.yaml"
    assert re.fullmatch(r"[0-9a-f]{40}", read_task(pinned).samples.revision)
    bad = tmp_path / "mnist.yaml"
    bad.write_text(re.sub("revision: .*", "revision: main", pinned.read_text()))
    with pytest.raises(AssetError, match=r"samples\.revision must be a commit.*main"):
        read_task(bad)


@pytest.mark.parametrize("path", sorted(registry.TASKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_task_file_is_complete(path):
    spec = read_task(path)
    assert spec.name == path.stem
    assert spec.title
    assert spec.description
    assert len(set(spec.classes)) == len(spec.classes)
    assert all(template.count("{}") == 1 for template in spec.templates)
    assert len(set(spec.templates)) == len(spec.templates)
    assert spec.samples.kind == "hub"
    assert "/" in spec.samples.dataset


def test_bundled_family_comes_from_its_tasks_file(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROMERGE_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match=r"tasks\.json"):
        get_family("pictoclip")
    assert "pictoclip" not in registry.families()
    assert list(registry.unreadable_families()) == ["pictoclip"]
    assert "Restore the folder assets/" in registry.unreadable_families()["pictoclip"]
    (tmp_path / "pictoclip").mkdir()
    tasks = {"flags": {"title": "Flags", "description": "d", "classes": ["Chad", "Peru"], "templates": ["flag of {}"]}}
    (tmp_path / "pictoclip" / "tasks.json").write_text(json.dumps(tasks))
    family = get_family("pictoclip")
    assert family.base == "bundled:pictoclip"
    assert family.experts == {"flags": "bundled:pictoclip/flags"}
    assert family.task("flags").samples.kind == "bundled"
    assert not family.online
    assert next(iter(registry.families())) == "pictoclip"
    assert registry.unreadable_families() == {}
    (tmp_path / "pictoclip" / "tasks.json").write_text("{")
    with pytest.raises(AssetError, match="cannot be read"):
        get_family("pictoclip")


def test_adding_a_family_is_adding_a_file(tmp_path, monkeypatch):
    shutil.copytree(registry.REGISTRY, tmp_path / "families")
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "families")
    (tmp_path / "families" / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\nonline: true\nbase: {source: 'hub:me/base@main'}\n"
        "experts:\n  mnist: {source: 'hub:me/mnist@main'}\n"
    )
    assert registry.families()["mine"].task("mnist").classes[3] == "3"
    (tmp_path / "families" / "broken.yaml").write_text("base: {source: x}\nexperts: {unheard-of: {source: y}}\n")
    assert "broken" not in registry.families()
    with pytest.raises(AssetError, match="unheard-of"):
        get_family("broken")


def test_registry_files_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROMERGE_FAMILIES", str(tmp_path))
    monkeypatch.setenv("NEUROMERGE_ALLOW_LOCAL", "1")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "birds.yaml").write_text(
        "title: Birds\ndescription: d\nclasses: [wren, robin]\nsamples: {kind: folder, path: pictures}\n"
    )
    entries = "experts: {birds: {source: /b.safetensors}, mnist: {source: /m.safetensors}}"
    (tmp_path / "mine.yaml").write_text(f"base: {{source: /base}}\n{entries}\n")
    (tmp_path / "clip-vit-base-patch32.yaml").write_text("base: {source: /evil}\n" + entries)
    family = get_family("mine")
    assert family.task("birds").classes == ("wren", "robin")
    assert family.task("birds").samples.path == tmp_path / "tasks" / "pictures"
    assert len(family.task("mnist").classes) == 10
    assert "mine" in registry.families()
    assert get_family("clip-vit-base-patch32").base.startswith("hub:openai/"), "the package's own come first"
    monkeypatch.setenv("NEUROMERGE_ALLOW_LOCAL", "0")
    with pytest.raises(SettingError, match="no model family"):
        get_family("mine")


def test_published_figures_name_their_source():
    from neuromerge.merging import methods

    figures = get_family("clip-vit-base-patch32").published
    assert len(figures) == 3
    for entry in figures:
        assert entry.source
        assert entry.setting
        assert entry.tasks == tuple(PAPER)
        assert set(entry.mean) <= {"base", "experts", *methods()}
        assert all(0 < value < 100 for value in entry.mean.values())


def test_local_family(family_folder):
    family = local_family(family_folder, allowed=True)
    assert list(family.experts) == ["colours", "shades"]
    assert family.task("colours").classes == ("blue", "green", "red")
    assert family.task("colours").samples.kind == "folder"
    with pytest.raises(SettingError, match="no expert"):
        family.source("cars")


def test_what_hides_among_experts_is_none(family_folder, tmp_path):
    shutil.copytree(family_folder, tmp_path / "own")
    (tmp_path / "own" / "experts" / ".ipynb_checkpoints").mkdir()
    for folder in ("base", "experts"):
        for path in list((tmp_path / "own" / folder).glob("*.safetensors")):
            path.with_name(f"._{path.name}").write_bytes(b"junk of a file system")
    (tmp_path / "own" / "base" / "open_clip_model.safetensors").rename(
        tmp_path / "own" / "base" / "weights.safetensors"
    )
    family = local_family(tmp_path / "own", allowed=True)
    assert list(family.experts) == ["colours", "shades"]
    assert len(load_checkpoint(family.base)) == len(load_checkpoint(family_folder / "base"))


def test_local_family_may_name_a_registered_task(family_folder, tmp_path):
    for part in ("base", "experts"):
        (tmp_path / part).mkdir()
    shutil.copy(family_folder / "experts" / "colours.safetensors", tmp_path / "experts" / "mnist.safetensors")
    shutil.copy(family_folder / "experts" / "colours.safetensors", tmp_path / "experts" / "other.safetensors")
    family = local_family(tmp_path, allowed=True)
    assert family.task("mnist").samples.dataset == "ylecun/mnist"
    assert list(family.experts) == ["mnist", "other"], "it can be merged"
    assert "other" not in family.tasks, "but not evaluated"


def test_local_folders_are_closed_on_a_public_space(family_folder, monkeypatch):
    monkeypatch.delenv("NEUROMERGE_ALLOW_LOCAL", raising=False)
    monkeypatch.setenv("SPACE_ID", "someone/space")
    monkeypatch.setenv("NEUROMERGE_FAMILIES", str(family_folder))
    with pytest.raises(LimitError):
        local_family(family_folder)
    with pytest.raises(LimitError):
        get_family(str(family_folder))
    with pytest.raises(SettingError, match="no model family"):
        get_family(family_folder.name)
    monkeypatch.setenv("NEUROMERGE_ALLOW_LOCAL", "1")
    assert get_family(family_folder.name).folder == family_folder
    monkeypatch.delenv("NEUROMERGE_ALLOW_LOCAL")
    monkeypatch.delenv("SPACE_ID")
    monkeypatch.setenv("NEUROMERGE_PUBLIC", "1")
    with pytest.raises(LimitError):
        local_family(family_folder)


@pytest.mark.parametrize("name", ["nope", "", "x" * 500, "PICTOCLIP", None, 3])
def test_unknown_families_are_named_with_the_known_ones(name):
    with pytest.raises(SettingError, match="clip-vit-base-patch32"):
        get_family(name)


def test_not_a_family(tmp_path):
    with pytest.raises(SettingError, match="base/"):
        local_family(tmp_path, allowed=True)
    (tmp_path / "base").mkdir()
    (tmp_path / "experts").mkdir()
    with pytest.raises(SettingError, match="no expert"):
        local_family(tmp_path, allowed=True)


def test_heads_are_made_of_the_published_strings_and_people_read_others():
    pets = get_family("clip-vit-base-patch32").task("oxford-iiit-pet")
    assert sum("_" in name for name in pets.classes) == 19
    assert not any("_" in name for name in pets.shown_classes)
    objects = get_family("clip-vit-base-patch32").task("cifar100")
    assert [name for name in objects.classes if "_" in name or name == "cra"] == [
        *("aquarium_fish", "cra", "lawn_mower", "maple_tree", "oak_tree", "palm_tree", "pickup_truck"),
        *("pine_tree", "sweet_pepper", "willow_tree"),
    ]
    assert objects.shown_classes[objects.classes.index("cra")] == "crab"
    assert objects.samples.label == "label"


def test_data_sets_with_named_configurations():
    tasks = get_family("clip-vit-base-patch32").tasks
    assert tasks["emnist_letters"].samples.config == "emnist-letters"
    assert tasks["kmnist"].samples.config == "kmnist"


@pytest.mark.parametrize("name", ONLINE)
def test_published_accuracies_stand_in_the_registry(name):
    family = get_family(name)
    assert set(family.acceptance) == set(family.experts)
    assert all(0.09 < each.base < 1 and 0.7 < each.expert < 1 for each in family.acceptance.values())


def test_published_accuracies_of_the_smallest_backbone():
    found = {task: 100 * each.expert for task, each in get_family("clip-vit-base-patch32").acceptance.items()}
    expected = {"oxford_flowers102": 88.55, "pcam": 87.96, "fer2013": 71.61, "oxford-iiit-pet": 92.45}
    expected |= {"emnist_letters": 95.62, "kmnist": 98.23, "rendered-sst2": 71.28, "svhn": 97.27}
    assert {task: found[task] for task in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong", ["{nope: {base: 1, expert: 2}}", "{mnist: {base: 1}}", "{mnist: {base: 1, expert: 200}}", "[1]"]
)
def test_acceptance_that_is_none(tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(registry, "REGISTRY", tmp_path)
    text = "base: {source: x}\nexperts: {mnist: {source: y}}\nacceptance: "
    (tmp_path / "mine.yaml").write_text(text + wrong)
    with pytest.raises(AssetError, match="acceptance"):
        get_family("mine")


def test_display_names_are_of_classes(tmp_path):
    (tmp_path / "t.yaml").write_text("classes: [a]\ndisplay: {b: B}\nsamples: {kind: folder}\n")
    with pytest.raises(AssetError, match="display names b"):
        read_task(tmp_path / "t.yaml")


def test_a_source_is_known_with_and_without_its_file():
    family = get_family("clip-vit-base-patch16")
    repository, commit = "hub:timm/vit_base_patch16_clip_224.openai", "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d"
    assert family.base == f"{repository}/open_clip_model.safetensors@{commit}"
    assert family.is_source(f"{repository}@{commit}")
    assert not family.is_source(f"{repository}@main")
    assert family.is_source("hub:tanganke/clip-vit-base-patch16_dtd@main", "dtd")
    assert not family.is_source("hub:tanganke/clip-vit-base-patch16_dtd@main", "mnist")
    assert not family.is_source(f"hub:tanganke/clip-vit-base-patch16_dtd@{'a' * 40}", "dtd")
