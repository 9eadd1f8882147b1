"""Zip archives of pictures from strangers: what a folder would give, or a refusal; nothing is ever written."""

from __future__ import annotations

import io
import stat
import zipfile

import pytest
from PIL import Image

from neuromerge.errors import LimitError, NeuroMergeError, SettingError
from neuromerge.evaluation.archives import ArchiveLimits, ZipTree
from neuromerge.evaluation.samples import folder_samples, own_samples, picture_classes

CLASSES = ("cat", "dog")


def png(colour="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return path


def good(prefix="", each=6):
    return {f"{prefix}{name}/{number}.png": png() for name in CLASSES for number in range(each)}


@pytest.fixture
def archive(tmp_path):
    junk = {"__MACOSX/cat/._0.png": b"x", ".DS_Store": b"x", "pets/cat/._1.png": b"x", "pets/dog/Thumbs.db": b"x"}
    return pack(tmp_path / "pets.zip", {"pets/": "", **good("pets/"), **junk, "pets/Icon\r": b""})


def test_an_archive_gives_what_its_folder_gives(archive, tmp_path):
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "folder")
    for split in ("validation", "test", "quick"):
        from_zip, from_folder = (
            folder_samples(path, CLASSES, "pets", split) for path in (archive, tmp_path / "folder" / "pets")
        )
        assert sorted(from_zip.ids) == sorted(from_folder.ids)
        assert from_zip.skipped == ()
        assert from_zip.images[0].shape == (8, 8, 3)


def test_split_folders_and_broken_pictures_in_an_archive(tmp_path):
    entries = {
        **good("train/"),
        **good("val/", 2),
        **good("test/", 3),
        "test/cat/bad.png": b"x",
        "test/cat/a.txt": b"x",
    }
    samples = folder_samples(pack(tmp_path / "a.zip", entries), CLASSES, "pets", "test")
    assert len(samples) == 6
    assert {skipped.name for skipped in samples.skipped} == {"cat/bad.png", "cat/a.txt"}


@pytest.mark.parametrize(
    "name",
    ["../cat/x.png", "cat/../../x.png", "/etc/x.png", "\\\\host\\cat\\x.png", "C:\\cat\\x.png", "cat\\..\\..\\x.png"],
)
def test_names_that_lead_outside_are_refused(tmp_path, name):
    path = pack(tmp_path / "a.zip", {**good(), name: png()})
    with pytest.raises(SettingError, match="leads outside"):
        folder_samples(path, CLASSES, "pets", "test")
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_special_files_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("cat/link.png")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    path = pack(tmp_path / "a.zip", [*good().items(), (entry, "/etc/passwd")])
    with pytest.raises(SettingError, match="a link or special file"):
        ZipTree(path)


def test_windows_separators_are_understood(tmp_path):
    entries = {name.replace("/", "\\"): content for name, content in good().items()}
    assert len(folder_samples(pack(tmp_path / "a.zip", entries), CLASSES, "pets", "test")) > 0


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ArchiveLimits(entries=5), "12 entries; at most 5"),
        (ArchiveLimits(archive_bytes=100), "at most 0 MB"),
        (ArchiveLimits(total_bytes=500), "unpacked"),
        (ArchiveLimits(entry_bytes=20), "unpacks to more than"),
    ],
)
def test_limits(tmp_path, limits, message):
    path = pack(tmp_path / "a.zip", good())
    ZipTree(path)
    with pytest.raises(LimitError, match=message):
        ZipTree(path, limits)


def test_limits_reach_the_readers_of_archives(archive):
    assert picture_classes(archive) == picture_classes(str(archive)) == CLASSES
    tight = ArchiveLimits(entries=3)
    with pytest.raises(LimitError, match="at most 3"):
        picture_classes(archive, tight)
    for split in ("test", "quick"):
        with pytest.raises(LimitError, match="at most 3"):
            folder_samples(archive, CLASSES, "pets", split, tight)
    with pytest.raises(SettingError, match="no folder"):
        picture_classes(archive.with_name("nothing.zip"))


def test_a_bomb_is_refused_before_it_is_read(tmp_path):
    path = pack(tmp_path / "a.zip", {**good(), "cat/bomb.png": b"\x00" * 50_000_000})
    assert path.stat().st_size < 200_000
    with pytest.raises(LimitError, match=r"bomb\.png.* 200 times"):
        ZipTree(path)


def test_damaged_and_other_files_are_refused(archive, tmp_path):
    whole = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_text("no archive")
    twice = tmp_path / "twice.zip"
    with pytest.warns(UserWarning, match="Duplicate"):
        pack(twice, [("cat/a.png", png()), ("cat/a.png", png("blue"))])
    for path, message in (
        (tmp_path / "cut.zip", "no readable zip"),
        (tmp_path / "text.zip", "no readable"),
        (twice, "twice"),
    ):
        with pytest.raises(SettingError, match=message):
            ZipTree(path)


def test_any_damaged_byte_gives_pictures_or_an_error_of_ours(archive, tmp_path):
    whole = archive.read_bytes()
    seen = set()
    for position in range(0, len(whole), 37):
        path = tmp_path / "damaged.zip"
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            seen.add(type(folder_samples(path, CLASSES, "pets", "test")).__name__)
        except NeuroMergeError as error:
            seen.add(type(error).__name__)
    assert "SampleSet" in seen
    assert "SettingError" in seen


def test_an_encrypted_entry_is_refused(tmp_path):
    path = pack(tmp_path / "a.zip", good())
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(SettingError, match="encrypted"):
        ZipTree(path)


def test_own_samples_are_all_pictures_of_the_classes_that_folders_name(archive, tmp_path):
    samples = own_samples(archive, "pets")
    assert (samples.classes, len(samples), samples.notes) == (CLASSES, 12, ())
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "folder")
    again = own_samples(tmp_path / "folder", "pets")
    assert sorted(again.ids) == sorted(samples.ids)
    assert again.labels.tolist() == samples.labels.tolist()


@pytest.mark.parametrize(
    ("folders", "count", "said"),
    [
        (("train", "val", "test"), 2, "the pictures of validation are taken; those of test and train are not"),
        (("training", "test"), 2, "the pictures of test are taken; those of train are not"),
        (("train",), 2, ""),
    ],
)
def test_of_split_folders_one_split_is_taken_and_the_others_are_named(tmp_path, folders, count, said):
    entries = [entry for folder in folders for entry in good(f"{folder}/", 1).items()]
    samples = own_samples(pack(tmp_path / "a.zip", entries), "a")
    assert len(samples) == count
    assert samples.remark == said


def test_own_samples_say_what_is_left_out_and_what_is_missing(tmp_path):
    entries = {**good(each=1), "cat/bad.png": b"x", "notes.txt": b"x", "bird/": b""}
    samples = own_samples(pack(tmp_path / "a.zip", entries), "a")
    assert samples.classes == CLASSES
    assert {left.name for left in samples.skipped} == {"cat/bad.png", "notes.txt", "bird"}


def test_what_lies_beside_the_pictures_names_no_class(tmp_path):
    entries = {**good("images/"), "annotations/deep/cat.xml": b"x", "splits/": b""}
    samples = own_samples(pack(tmp_path / "a.zip", entries), "a")
    assert (samples.classes, len(samples)) == (CLASSES, 12)
    assert {left.name for left in samples.skipped} == {"annotations", "splits"}
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        packed.extractall(tmp_path / "folder")
    assert own_samples(tmp_path / "folder", "a").skipped == samples.skipped


@pytest.mark.parametrize("entries", [{}, {"x.png": png()}, {"cat/x.png": png()}])
def test_fewer_than_two_classes_are_refused_without_the_servers_folders(tmp_path, entries):
    with pytest.raises(SettingError, match="two classes at least") as refused:
        own_samples(pack(tmp_path / "a.zip", entries), "a")
    assert str(tmp_path) not in str(refused.value)
