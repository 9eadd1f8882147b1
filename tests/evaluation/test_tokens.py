"""Tokenizers of strangers are bounded before they run; prompts that the text tower misses are told."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Loaded
from tokenizers import models, normalizers, pre_tokenizers, processors

from neuromerge.checkpoints import load_checkpoint
from neuromerge.deployment import deployment
from neuromerge.errors import CheckpointError
from neuromerge.evaluation.configuration import CLIP_VOCABULARY, TextSettings, TowerSettings
from neuromerge.evaluation.heads import prompt_notes
from neuromerge.evaluation.tokens import tokenizer_for
from neuromerge.evaluation.towers import TextModel
from neuromerge.evaluation.towers.weights import fingerprint
from tests.evaluation.networks import save_open_clip, save_tokenizer

ROOT = Path(__file__).parents[2]
OWN = TextSettings(TowerSettings("gelu", heads=2), context=10, tokenizer="folder")


def opened(folder, settings=OWN):
    return tokenizer_for(settings, folder, 18)


def edited(folder, change):
    save_tokenizer(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder


def replacing(pattern, by):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": by}


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer"])
def test_what_multiplies_a_text_is_refused_unrun(tmp_path, part):
    kind, name = ("normalizers", "normalizer") if part == "normalizer" else ("pretokenizers", "pre_tokenizer")
    bombs = [
        replacing("a", "a" * 1_000),
        {"type": "Sequence", kind: [replacing("a", "aaaa")] * 4},
        {"type": "Sequence", kind: [{"type": "Sequence", kind: [replacing("a", "aa")] * 7}]},
        {"type": "Sequence", kind: [{"type": "ByteLevel", "add_prefix_space": True}] * 4},
        {"type": "Precompiled", "precompiled_charsmap": replacement_table("b" * 65)},
    ]
    for bomb in bombs:
        folder = edited(tmp_path, lambda content, bomb=bomb: content.update({name: bomb}))
        with pytest.raises(CheckpointError, match=rf"tokenizer\.json: its {part} makes a text more than 64 times"):
            opened(folder)


def replacement_table(text):
    """SentencePiece's table that replaces an a: a double array of one path, and the texts it leads to."""
    units = [0] * 1_024
    root, leaf = 256, 512  # where the children of the root, and of its child, are: xor'ed with a label
    units[0] = root << 10
    units[root ^ ord("a")] = leaf << 10 | 1 << 8 | ord("a")
    units[root ^ ord("a") ^ leaf] = 1 << 31
    trie = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + text.encode() + b"\0").decode()


def test_a_table_of_short_replacements_is_used(tmp_path):
    table = {"type": "Precompiled", "precompiled_charsmap": replacement_table("dog")}
    tokenizer = opened(edited(tmp_path, lambda content: content.update({"normalizer": table})))
    assert tokenizer(["a"], 10).tolist() == tokenizer(["dog"], 10).tolist()


@pytest.mark.parametrize(
    "table",
    [
        *(base64.b64encode(content).decode() for content in (b"\xff\xff\xff\xff abc", b"\x01")),
        base64.b64encode(struct.pack("<II", 4, 0) + b"\xff\xff").decode(),  # texts that are none
        "no base64!",
        5,
        None,
    ],
)
def test_a_table_of_replacements_that_is_none_is_refused_unread(tmp_path, table, capfd):
    """The library panics, and prints where it stood."""
    step = {"type": "Precompiled", "precompiled_charsmap": table}
    with pytest.raises(CheckpointError, match="precompiled_charsmap is damaged or cut short"):
        opened(edited(tmp_path, lambda content: content.update({"normalizer": step})))
    assert capfd.readouterr().err == ""


def test_usual_normalizers_pass(tmp_path):
    save_tokenizer(tmp_path)
    loaded = Loaded.from_file(str(tmp_path / "tokenizer.json"))
    loaded.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.Lowercase(), normalizers.Prepend("▁"), normalizers.Replace("▁", "")]
    )
    loaded.save(str(tmp_path / "tokenizer.json"))
    assert opened(tmp_path)(["The dog ﷺ"], 10).shape == (1, 10)


def test_a_normalizer_that_grows_at_every_place_is_stopped_before_the_split(tmp_path):
    everywhere = {"type": "Replace", "pattern": {"Regex": ""}, "content": "a" * 64}
    tokenizer = opened(edited(tmp_path, lambda content: content.update({"normalizer": everywhere})))
    with pytest.raises(CheckpointError, match="its normalizer makes a text of 5 signs"):
        tokenizer(["a dog"], 10)


def test_steps_that_double_a_text_are_stopped_one_by_one(tmp_path):
    doubled = {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": ""}, "content": "a"}] * 40}
    tokenizer = opened(edited(tmp_path, lambda content: content.update({"normalizer": doubled})))
    with pytest.raises(CheckpointError, match=r"its normalizer makes a text of 5 signs \d{3} long"):
        tokenizer(["a dog"], 10)


def test_a_text_that_is_put_in_many_times_is_refused(tmp_path):
    words = Loaded(models.WordLevel({"<unk>": 0, "dog": 1}, unk_token="<unk>"))
    twice = processors.TemplateProcessing(single="$A $A")
    for processor in (twice, processors.Sequence([processors.ByteLevel(), twice])):
        words.post_processor = processor
        words.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(CheckpointError, match="puts a text in more than once"):
            opened(tmp_path)


LONG = "p" * 300


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["model"].update(continuing_subword_prefix=LONG),
        lambda content: content["model"].update(end_of_word_suffix=LONG),
        lambda content: content["model"].update(unk_token=LONG),
        lambda content: content.update(post_processor={"type": "BertProcessing", "sep": [LONG, 1], "cls": ["a", 2]}),
    ],
)
def test_long_texts_that_are_put_in_everywhere_are_refused(tmp_path, change):
    with pytest.raises(CheckpointError, match="a text of 300 signs"):
        opened(edited(tmp_path, change))


def test_words_that_are_looked_up_in_pieces_are_bounded(tmp_path):
    folder = edited(tmp_path, lambda content: content["model"].update(max_input_chars_per_word=10**9))
    with pytest.raises(CheckpointError, match="max_input_chars_per_word must be at most 256"):
        opened(folder)


def test_pieces_of_a_unigram_vocabulary_are_short(tmp_path):
    vocabulary = [["<unk>", 0.0], *(["p" * length, -1.0] for length in range(1, 300))]
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary}
    folder = edited(tmp_path, lambda content: content.update(model=unigram))
    with pytest.raises(CheckpointError, match="a piece of 299 signs; at most 256"):
        opened(folder)


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("merges", [["a", "a"]] * 600_001),
        ("vocab", {str(number): number for number in range(600_001)}),
        ("vocab", [[str(number), -1.0] for number in range(600_001)]),
    ],
    ids=["merges", "words", "pieces"],
)
def test_endless_vocabularies_are_refused_before_they_are_read(tmp_path, name, entries):
    """Each entry takes a kilobyte while the tokenizer is made."""
    folder = edited(tmp_path, lambda content: content["model"].update({name: entries}))
    with pytest.raises(CheckpointError, match=f"model: {name} has 600,001 entries; at most 600,000 are read"):
        opened(folder)


def test_marks_that_fill_the_context(tmp_path):
    words = {word: number for number, word in enumerate(["<unk>", "dog", "<s>"])}
    loaded = Loaded(models.WordLevel(words, unk_token="<unk>"))
    loaded.pre_tokenizer = pre_tokenizers.Whitespace()
    for count, message in ((12, "tokenizer"), (300, "marks the ends of a text with 3")):
        loaded.post_processor = processors.TemplateProcessing(single="<s> " * count + "$A", special_tokens=[("<s>", 2)])
        loaded.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(CheckpointError, match=message):
            opened(tmp_path)(["dog"], 10)


def test_chance_in_a_tokenizer_is_refused(tmp_path):
    folder = edited(tmp_path, lambda content: content["model"].update({"dropout": 0.1}))
    with pytest.raises(CheckpointError, match="dropout"):
        opened(folder)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "content", ["", "[]", '{"pad_token": ' + "[" * 5_000 + "]" * 5_000 + "}", '{"pad_token": 3.5}', "3"]
)
def test_bad_files_of_a_tokenizer(tmp_path, name, content):
    save_tokenizer(tmp_path)
    for other in ("tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / other).unlink(missing_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=r"\.json"):
        opened(tmp_path)


def test_endless_merges_of_older_folders(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with open(tmp_path / "merges.txt", "wb") as file:
        file.truncate(9 * 2**20)
    with pytest.raises(CheckpointError, match=r"merges\.txt has 9,437,184 bytes"):
        opened(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": "b"}', "[" * 5_000])
def test_bad_vocabularies_of_older_folders(tmp_path, content):
    (tmp_path / "vocab.json").write_text(content)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c d\n")
    with pytest.raises(CheckpointError):
        opened(tmp_path)(["dog"], 10)


def test_padding_and_truncation_of_the_file_do_not_count(tmp_path):
    def change(content):
        content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
        content["padding"] = {
            "strategy": {"Fixed": 4_000_000},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        }

    plain, changed = tmp_path / "plain", tmp_path / "changed"
    save_tokenizer(plain)
    expected = opened(plain)(["a photo of the red dog"], 10)
    assert (opened(edited(changed, change))(["a photo of the red dog"], 10) == expected).all()


def test_lengths_and_unknown_words(tmp_path):
    save_tokenizer(tmp_path)
    tokenizer = opened(tmp_path)
    assert tokenizer.lengths(["a dog", "dog " * 30, ""]) == [4, 32, 2]
    assert tokenizer.unknown_words("a dog 🦄 zyzzyva dog 🦄") == ("🦄", "zyzzyva")
    long = tokenizer(["dog " * 30], 10)[0].tolist()
    assert long[-1] == tokenizer(["dog"], 10)[0].tolist()[2], "the end of the text is still marked"


def test_clips_own_vocabulary_knows_every_sign():
    tokenizer = tokenizer_for(TextSettings(TowerSettings("gelu", heads=8), context=77), None, CLIP_VOCABULARY)
    assert tokenizer.unknown_words("dog 🦄 Straße") == ()
    assert tokenizer.lengths(["a dog", "dog " * 100]) == [4, 102]
    assert tokenizer(["dog " * 100], 77).shape == (1, 77)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    save_open_clip(folder)
    return TextModel.from_checkpoint(load_checkpoint(folder))


def test_prompts_that_the_text_tower_misses_are_told(text_model):
    assert prompt_notes(text_model, ["dog", "cat"], ["a photo of the {}"]) == ()
    cut = prompt_notes(text_model, ["dog", "red " * 9], ["a photo of {}"])
    assert cut == (
        "1 of 2 prompts are longer than the 10 tokens that the text tower reads, and their ends are cut: "
        "“a photo of red red red red red red red red red”.",
    )
    unknown = prompt_notes(text_model, ["dog 🦄", "cat", "zyzzyva"], ["a sketch of {}"])
    assert unknown == ("The text tower does not know all of “sketch”, “🦄”, “zyzzyva”.",)
    alike = prompt_notes(text_model, ["🦄", "dog", "🐙"], ["a {}"])
    assert alike[1] == "The text tower reads the same in “🦄”, “🐙”, so it cannot tell these classes apart."
    vanished = prompt_notes(text_model, ["dog", "cat"], ["a photo of the red blue small letter number of {}"])
    assert any("dog”, “cat”, so it cannot tell" in note for note in vanished)


def test_the_bundled_text_tower_misses_what_it_says():
    model = TextModel.from_checkpoint(load_checkpoint("bundled:pictoclip"))
    assert model.tokenizer.unknown_words("dog café 🦄 dog🦄") == ("🦄", "dog🦄")


def test_the_tokenizer_of_another_vocabulary(family_folder, tmp_path):
    shutil.copytree(family_folder / "base", tmp_path / "base")
    shutil.copy(deployment().assets / "pictoclip" / "tokenizer.json", tmp_path / "base")
    with pytest.raises(CheckpointError, match="do not belong together"):
        TextModel.from_checkpoint(load_checkpoint(tmp_path / "base")).encode(["dog"])


def test_clips_own_tokenizer_needs_not_the_package_around_it():
    code = """
import sys
from neuromerge.evaluation.configuration import CLIP_VOCABULARY, TextSettings, TowerSettings
from neuromerge.evaluation.tokens import tokenizer_for
ours = tokenizer_for(TextSettings(TowerSettings("gelu"), context=20), None, CLIP_VOCABULARY)
assert "open_clip" not in sys.modules and "torchvision" not in sys.modules
from open_clip.tokenizer import SimpleTokenizer
texts = ["a photo of a café", "Zürich &amp; more", ""]
assert ours(texts, 20).equal(SimpleTokenizer()(texts, context_length=20))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_fingerprint_of_a_text_tower_knows_every_value():
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(3)}
    mark = fingerprint(weights)
    assert fingerprint(dict(reversed(weights.items()))) == mark
    assert fingerprint({**weights, "a": weights["a"].t().contiguous().t()}) == mark
    swapped = weights["a"].clone()
    swapped[0, 0], swapped[1, 2] = 5.0, 0.0  # the same sums
    for other in ({**weights, "a": swapped}, {**weights, "a": weights["a"].view(3, 2)}, {"a": weights["a"]}):
        assert fingerprint(other) != mark
