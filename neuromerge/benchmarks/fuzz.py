"""Whatever strangers can send, spoilt at random: recipes, links, requests, class names, headers, configurations.

Each input starts as a good one and is spoilt a few times: characters and tokens are put in, cut out, repeated and
moved. A target may accept what comes out, or refuse it with one of the library's own errors, whose message then is
for people; anything else is a defect and is printed with the number that repeats it.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": [32, 32], "layers": 2, "width": 16, "head_width": 8, "patch_size": 8,
                       "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "none"}},
        "text_cfg": {"context_length": 16, "vocab_size": 99, "width": 16, "heads": 2, "layers": 2,
                     "tokenizer_kwargs": {"clean": "lower"}},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "interpolation": "bicubic",
                       "resize_mode": "shortest"},
}  # fmt: skip
TRANSFORMERS = {
    "model_type": "clip",
    "projection_dim": 16,
    "vision_config": {"hidden_act": "quick_gelu", "hidden_size": 16, "num_attention_heads": 2, "image_size": 32,
                      "patch_size": 8, "layer_norm_eps": 1e-5},
    "text_config": {"hidden_act": "gelu", "hidden_size": 16, "num_attention_heads": 2, "eos_token_id": 2},
}  # fmt: skip
PICTURES = {
    "do_resize": True, "size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32},
    "resample": 3, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    "do_rescale": True, "rescale_factor": 0.00392156862745098,
}  # fmt: skip
EVENT = {"data": [["neuromerging", 0.8, None, {"x": [1, 2]}], "text"], "fn_index": 3, "session_hash": "abcdefghijk"}

TOKENS = (
    "nan", ".inf", "-0", "1e999", "-1", "2147483648", "9" * 400, "0x10", "1_0", "true", "null", "~", "auto", "", " ",
    "\t", "\n", "\r\n", "\x00", "\x1b[31m", "\u202e", "\ufeff", "\ud800", "é", "🧬", "名", "<script>", "{}", "{",
    "}", "{0}", "{}{}", "%", "%00", "%ff", "&", "=", ";", ",", ":", "- ", "[", "]", "[[", "&a", "*a", "<<: *a",
    "!!python/object/apply:os.system", "!!int x", "---\n", "...", "#", "|", ">", "'", '"', "\\", "../", "/etc/passwd",
    "C:\\", "hub:a/b@c", "file://x", "2026-11-22", "12:30:45", "key: ", "? ", "[" * 200, "{a: " * 60, "a" * 5000,
)  # fmt: skip
"""What breaks parsers: numbers that are none, characters that do not print, the syntax of YAML, JSON and links."""

CLASSES = "zero, one\ntwo\nthree little pigs"
TEMPLATE = "a picture of the digit {}"
HEADER = {
    "__metadata__": {"format": "pt"},
    "visual.conv1.weight": {"dtype": "F16", "shape": [4, 3], "data_offsets": [0, 24]},
    "visual.proj": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
}

Target = Callable[[str, random.Random], None]
"""Takes one spoilt input; raises a NeuroMergeError to refuse it, and anything else only where it is defective."""


def spoilt(text: str, dice: random.Random) -> str:
    """`text` after one to eight random changes."""
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        start = dice.randrange(len(text) + 1)
        stop = min(len(text), start + dice.choice((0, 1, 2, 8, 40)))
        change = dice.randrange(6)
        if change == 0:
            text = text[:start] + text[stop:]
        elif change == 1:
            text = text[:stop] + text[start:]
        elif change == 2:
            text = text[:start] + chr(dice.choice((dice.randrange(128), dice.randrange(0x3000)))) + text[stop:]
        elif change == 3:
            away, piece = text[:start] + text[stop:], text[start:stop]
            place = dice.randrange(len(away) + 1)
            text = away[:place] + piece + away[place:]
        else:
            text = text[:start] + dice.choice(TOKENS) + text[stop:]
    return text


def targets() -> dict[str, tuple[str, Target]]:
    """Name to a good input and what takes the spoilt ones."""
    import gradio as gr

    from neuromerge.checkpoints import image_processing, load_checkpoint
    from neuromerge.checkpoints.clip_config import from_open_clip, from_transformers
    from neuromerge.checkpoints.fields import Fields
    from neuromerge.checkpoints.header import parse_header
    from neuromerge.deployment import Limits
    from neuromerge.errors import SettingError
    from neuromerge.evaluation.families import families
    from neuromerge.interface.bodies import fault
    from neuromerge.interface.components.controls import build_controls
    from neuromerge.interface.limits import check_class_names, check_template
    from neuromerge.interface.permalinks import PageState, decode, encode
    from neuromerge.interface.session import Session
    from neuromerge.interface.tabs import STATES
    from neuromerge.json_files import parse_json
    from neuromerge.merging.devices import find_device
    from neuromerge.settings.choices import change, make_setting
    from neuromerge.settings.recipes import dump_recipe, parse_recipe, recipe_of, setting_of
    from neuromerge.settings.setting import Setting

    known, limits = families(), Limits()
    family = next(iter(known.values()))
    with gr.Blocks():
        controls = build_controls(known)

    def recipe(text: str, dice: random.Random) -> None:
        held = parse_recipe(text.encode("utf-8", "surrogatepass") if dice.random() < 0.5 else text)
        _expect(parse_recipe(dump_recipe(held)) == held, "a recipe changed on its way through YAML")
        setting_of(held, known.values())

    def link(text: str, dice: random.Random) -> None:
        state, messages = decode(text, known, STATES)
        _expect(all(message.isprintable() for message in messages), "a message holds what does not print")
        again, complaints = decode(encode(state, STATES), known, STATES)
        _expect(again == state and not complaints, "a link did not restore what it was made from")

    def sidebar(text: str, dice: random.Random) -> None:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SettingError("That is no JSON.") from error  # which the web server refuses
        held = controls.read(values)
        setting = controls.setting(held)
        _expect(isinstance(setting, Setting), "no setting")
        controls.comparison(held[controls.compare], setting, Session())
        shown = {component: update["value"] for component, update in controls.updates(setting).items()}
        _expect(controls.setting({**held, **shown}) == setting, "controls changed a setting")

    def classes(text: str, dice: random.Random) -> None:
        for name in check_class_names(text, limits):
            _expect(name.isprintable() and name.strip() == name != "", "a class name that does not print")

    def template(text: str, dice: random.Random) -> None:
        _expect("penguin" in check_template(text, limits).format("penguin"), "a prompt without its class name")

    def header(text: str, dice: random.Random) -> None:
        for entry in parse_header(text.encode("utf-8", "surrogatepass"), 32, "the file").tensors.values():
            _expect(0 <= entry.start <= entry.stop <= 32, "a tensor outside its file")

    def configuration(read: Callable[[Any], object]) -> Target:
        def read_json(text: str, dice: random.Random) -> None:
            read(parse_json(text, "config.json", remedy="Mend it."))

        return read_json

    def request(text: str, dice: random.Random) -> None:
        body = text.encode("utf-8", "replace")
        if (why := fault(body)) is not None:
            raise SettingError(why)
        try:
            json.loads(body)
        except ValueError as error:  # what may be parsed may be no JSON, but never too deep for the parser
            raise SettingError("That is no JSON.") from error

    def device(text: str, dice: random.Random) -> None:
        find_device(text)

    def path(text: str, dice: random.Random) -> None:
        if not text.lstrip().startswith(("hub:", "hf-hub:", "http")):  # nobody is asked over the network
            load_checkpoint(text)

    page = PageState(change(make_setting(family, seed=3), family, trim_ratio=0.7), tab="neuron")
    return {
        "recipe": (dump_recipe(recipe_of(make_setting(family, ("digits", "flags")), family)), recipe),
        "link": (encode(page, STATES), link),
        "sidebar": (json.dumps([component.value for component in controls.gathered]), sidebar),
        "class names": (CLASSES, classes),
        "prompt": (TEMPLATE, template),
        "header": (json.dumps(HEADER), header),
        "open_clip": (json.dumps(OPEN_CLIP), configuration(from_open_clip)),
        "transformers": (json.dumps(TRANSFORMERS), configuration(lambda content: from_transformers(content, None))),
        "processor": (
            json.dumps(PICTURES),
            configuration(lambda content: image_processing.from_transformers(Fields(content, "the file"), 32)),
        ),
        "request": (json.dumps(EVENT), request),
        "device": ("cpu", device),
        "path": (str(family.base), path),
    }


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def attack(name: str, good: str, target: Target, first: int, last: int) -> tuple[int, int, list[str]]:
    """Send the inputs numbered `first` to `last`: how many were accepted and refused, and the defects found."""
    from neuromerge.errors import NeuroMergeError

    accepted, refused, defects = 0, 0, []
    for number in range(first, last):
        dice = random.Random(f"{name} {number}")
        text = spoilt(good, dice)
        try:
            target(text, dice)
            accepted += 1
        except NeuroMergeError:
            refused += 1
        except Exception as error:  # noqa: BLE001 - any other error is what this command looks for
            defects.append(f"{name} {number}: {type(error).__name__}: {error} from {text!r:.300}")
    return accepted, refused, defects


def main(argv: list[str]) -> int:
    """Spoil inputs, print how each target fared, and return 1 where one was defective."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N", help="for each target (100000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first input (0)")
    parser.add_argument("--only", nargs="+", metavar="TARGET", help="which targets, by name (all)")
    options = parser.parse_args(argv)
    known = targets()
    unknown = sorted(set(options.only or ()) - set(known))
    if unknown:
        parser.error(f"unknown target {', '.join(unknown)}; choose from: {', '.join(known)}")
    found: list[str] = []
    for name in options.only or known:
        begun = time.monotonic()
        good, target = known[name]
        accepted, refused, defects = attack(name, good, target, options.first, options.first + options.inputs)
        seconds = time.monotonic() - begun
        print(
            f"{name:12s} {accepted:8d} accepted {refused:8d} refused {len(defects):6d} defects {seconds:7.0f} s",
            flush=True,
        )
        for defect in defects[:10]:
            print(f"  {defect}")
        found += defects
    return 1 if found else 0
