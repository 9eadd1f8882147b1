"""Folders of pictures as people keep them: which picture counts for which class, and what is told of the rest."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter

import pytest
from PIL import Image

from neuromerge.errors import SettingError
from neuromerge.evaluation.configuration import Preprocessing
from neuromerge.evaluation.families import local_family
from neuromerge.evaluation.folders import ClassNames, FolderTree, classes_in, find_pictures, is_left_behind
from neuromerge.evaluation.samples import folder_samples, prepared

CLASSES = ("cat", "dog", "sea lion")
LEFT_BEHIND = (".ipynb_checkpoints/cat-checkpoint.png", "__MACOSX/cat/._0.png", ".git/x.png", "@eaDir/thumb.jpg")


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), colour).save(path, "PNG")
    return path


def fill(root, each=9, classes=CLASSES):
    for name in classes:
        for number in range(each):
            picture(root / name / f"{number}.png")
    return root


def counts(samples):
    return Counter(samples.classes[label] for label in samples.labels)


def everything(root, classes=CLASSES):
    """All pictures of both splits."""
    return sum((counts(folder_samples(root, classes, "zoo", split)) for split in ("validation", "test")), Counter())


def test_what_systems_leave_behind_changes_nothing(tmp_path):
    before = {split: folder_samples(fill(tmp_path), CLASSES, "zoo", split) for split in ("validation", "test")}
    for name in LEFT_BEHIND:
        picture(tmp_path / name)
        picture(tmp_path / "cat" / name)
    for name in (".DS_Store", "cat/Thumbs.db", "cat/._0.png", "dog/desktop.ini", "dog/.hidden.png"):
        (tmp_path / name).write_bytes(b"junk")
    for split, samples in before.items():
        after = folder_samples(tmp_path, CLASSES, "zoo", split)
        assert (after.ids, after.skipped, after.notes) == (samples.ids, (), ())
    assert classes_in(FolderTree(tmp_path)) == CLASSES


@pytest.mark.parametrize("name", ["._x.png", ".x", "Thumbs.db", "THUMBS.DB", "__MACOSX", "Icon\r", "desktop.ini"])
def test_names_that_are_left_behind(name):
    assert is_left_behind(name)
    assert not is_left_behind(f"x{name}")


@pytest.mark.parametrize(
    ("folders", "validation", "test"),
    [
        (("validation", "test"), "validation", "test"),
        (("train", "val", "test"), "val", "test"),
        (("Train", "Valid", "TEST"), "Valid", "TEST"),
        (("training", "dev", "testing"), "dev", "testing"),
        (("train", "test"), "train", "test"),
        (("train", "val"), "train", "val"),
    ],
)
def test_split_folders(tmp_path, folders, validation, test):
    for number, folder in enumerate(folders, start=1):
        fill(tmp_path / folder, each=number)
    for split, folder in (("validation", validation), ("test", test)):
        samples = folder_samples(tmp_path, CLASSES, "zoo", split)
        assert set(counts(samples).values()) == {folders.index(folder) + 1}
        unusual = folder != split and folder.casefold() in ("train", "val") and "train" in folders and len(folders) == 2
        assert bool(samples.notes) == unusual, samples.notes
    assert classes_in(FolderTree(tmp_path)) == CLASSES


@pytest.mark.parametrize("folder", ["val", "test", "train"])
def test_one_split_folder_is_divided(tmp_path, folder):
    fill(tmp_path / folder, each=30)
    parts = [folder_samples(tmp_path, CLASSES, "zoo", split) for split in ("validation", "test")]
    assert sum(map(len, parts)) == 90
    assert not set(parts[0].ids) & set(parts[1].ids)
    assert all("training pictures" in note for part in parts for note in part.notes)
    assert bool(parts[0].notes) == (folder == "train")
    assert [part.kept_back for part in parts] == [len(parts[1]), len(parts[0])]
    assert "kept for test" in parts[0].division
    assert "kept for validation" in parts[1].division


def test_a_class_may_be_called_train(tmp_path):
    classes = ("bus", "train")
    fill(tmp_path, classes=classes)
    assert everything(tmp_path, classes) == {"bus": 9, "train": 9}
    for split in ("train", "test"):
        fill(tmp_path / "parted" / split, classes=classes)
    assert counts(folder_samples(tmp_path / "parted", classes, "traffic", "test")) == {"bus": 9, "train": 9}
    only = fill(tmp_path / "only", each=30, classes=("test", "train"))
    assert everything(only, ("test", "train")) == {"test": 30, "train": 30}


def test_folders_inside_the_folder_of_a_class(tmp_path):
    picture(tmp_path / "cat" / "2024" / "may" / "a.png")
    picture(tmp_path / "cat" / "b.png")
    picture(tmp_path / "animals" / "dog" / "c.png")
    picture(tmp_path / "animals" / "sea" / "lion" / "d.png")
    found = find_pictures(FolderTree(tmp_path), (), ClassNames(CLASSES), "zoo")
    assert sorted((name, CLASSES[number]) for name, number, _ in found.pictures) == [
        ("animals/dog/c.png", "dog"),
        ("animals/sea/lion/d.png", "sea lion"),
        ("cat/2024/may/a.png", "cat"),
        ("cat/b.png", "cat"),
    ]


def test_one_folder_around_all_others(tmp_path):
    fill(tmp_path / "my pictures" / "images")
    assert set(everything(tmp_path)) == set(CLASSES)
    assert classes_in(FolderTree(tmp_path)) == CLASSES


def test_names_in_every_spelling(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Café_Crème") for form in ("NFC", "NFD"))
    for number, name in enumerate((composed, decomposed, "café crème", "CAFÉ-CRÈME")):
        picture(tmp_path / name / f"{number}.png")
    classes = (unicodedata.normalize("NFD", "café crème"), "tea")
    samples = [folder_samples(tmp_path, classes, "bar", split) for split in ("validation", "test")]
    assert sum(map(len, samples)) == 4
    assert samples[1].empty == ("tea",)
    assert "no pictures of tea" in " ".join(samples[1].notes)
    assert classes_in(FolderTree(tmp_path)) == ("CAFÉ-CRÈME",)


def test_two_classes_that_differ_in_case_only_are_kept_apart(tmp_path):
    for name in ("A", "a"):
        fill(tmp_path, classes=(name,))
    assert everything(tmp_path, ("A", "a")) == {"A": 9, "a": 9}


def test_every_usual_suffix(tmp_path):
    names = ["1.PNG", "2.Jpg", "3.jfif", "4.JPEG", "5.webp", "6.tif", "7.ppm", "8.bmp", "9.JPE"]
    for name in names:
        picture(tmp_path / "cat" / name)
    assert everything(tmp_path) == {"cat": len(names)}


def test_unreadable_and_other_files_are_named(tmp_path):
    fill(tmp_path / "test", classes=("cat",))
    fill(tmp_path / "val", classes=("cat",))
    broken = tmp_path / "test" / "cat" / "broken.png"
    broken.write_bytes(b"no picture")
    (tmp_path / "test" / "cat" / "short.jpg").write_bytes(picture(tmp_path / "x").read_bytes()[:30])
    (tmp_path / "test" / "cat" / "notes.txt").write_text("mine")
    (tmp_path / "test" / "cat" / "phone.heic").write_bytes(b"x")
    (tmp_path / "test" / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "test" / "cat" / "pipe.png")
    picture(tmp_path / "test" / "stray.png")
    samples = folder_samples(tmp_path, ("cat",), "zoo", "test")
    assert len(samples) == 9
    assert {skipped.name for skipped in samples.skipped} == {
        *("cat/broken.png", "cat/short.jpg", "cat/notes.txt", "cat/phone.heic", "cat/gone.png", "cat/pipe.png"),
        "stray.png",
    }
    assert all(skipped.reason for skipped in samples.skipped)
    note = next(note for note in samples.notes if "left out" in note)
    assert note.startswith("zoo: 7 files are left out: cat/")
    assert note.endswith("and 4 more.")
    assert prepared(samples, Preprocessing(8)).shape == (9, 8, 8, 3)


def test_no_readable_picture_at_all(tmp_path):
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "val" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "a.png").write_bytes(b"x")
    with pytest.raises(SettingError, match=r"None of the 1 pictures .* cat/a\.png"):
        folder_samples(tmp_path, ("cat",), "zoo", "test")
    with pytest.raises(SettingError, match="holds no pictures for validation"):
        folder_samples(tmp_path, ("cat",), "zoo", "validation")


def test_unknown_folders_with_pictures_are_refused(tmp_path):
    fill(tmp_path)
    picture(tmp_path / "animals" / "wolf" / "a.png")
    with pytest.raises(SettingError, match="animals/wolf: none of the classes of zoo"):
        folder_samples(tmp_path, CLASSES, "zoo", "test")


def test_links_are_followed_but_never_in_circles(tmp_path):
    fill(tmp_path / "elsewhere", classes=("cat",), each=30)
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "elsewhere" / "cat" / "again").symlink_to(tmp_path / "zoo")
    (tmp_path / "elsewhere" / "cat" / "self").symlink_to(tmp_path / "elsewhere" / "cat")
    assert everything(tmp_path / "zoo") == {"cat": 30}


def test_more_pictures_than_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("neuromerge.evaluation.samples.MAX_FOLDER_IMAGES", 10)
    fill(tmp_path / "test", each=6)
    fill(tmp_path / "val", each=1)
    (tmp_path / "test" / "dog" / "0.png").write_bytes(b"x")
    samples = folder_samples(tmp_path, CLASSES, "zoo", "test")
    assert len(samples) == 10
    assert min(counts(samples).values()) >= 3
    assert any(note.startswith("zoo: 10 of 1") for note in samples.notes)


def test_an_empty_class_of_a_family_stays_a_class_and_is_told(family_folder, tmp_path):
    for name in ("base", "experts"):
        (tmp_path / name).symlink_to(family_folder / name)
    fill(tmp_path / "samples" / "colours", classes=("red", "blue"))
    (tmp_path / "samples" / "colours" / "green").mkdir()
    picture(tmp_path / "samples" / "colours" / ".ipynb_checkpoints" / "a.png")
    spec = local_family(tmp_path, allowed=True).task("colours")
    assert spec.classes == ("blue", "green", "red")
    assert folder_samples(spec.samples.path, spec.classes, "colours", "test").empty == ("green",)
