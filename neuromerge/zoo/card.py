"""The model card and the attributions, written from the same figures that `figures.json` holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neuromerge.zoo import captions, publish, sources, tasks
from neuromerge.zoo.build import DataSet
from neuromerge.zoo.model import CONTEXT, EMBEDDING, IMAGE, PATCH


def write(folder: Path, data: DataSet, figures: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Write `README.md` (the model card) and `ATTRIBUTIONS.md` into a model folder."""
    (folder / "README.md").write_text(model_card(data, figures, recipe))
    (folder / "ATTRIBUTIONS.md").write_text(attributions(data))


def _percent(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{100 * figure['accuracy']:.1f} ({100 * low:.0f} to {100 * high:.0f})"


def accuracy_table(data: DataSet, figures: dict[str, Any]) -> str:
    """The Markdown table of accuracies on the test pictures, with 95 % intervals."""
    counted = publish.counts(data)
    lines = [
        "| task | classes | training / validation / test pictures | zero-shot (base) | expert "
        "| task vector / base norm |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in figures.items():
        n = counted[name]
        lines.append(
            f"| {name} | {entry['classes']} | {n['train']:,} / {n['validation']} / {n['test']} "
            f"| {_percent(entry['base']['test'])} | {_percent(entry['expert']['test'])} "
            f"| {100 * entry['movement']:.1f} % |"
        )
    if figures:
        mean = {
            who: sum(e[who]["test"]["accuracy"] for e in figures.values()) / len(figures) for who in ("base", "expert")
        }
        lines.append(f"| **mean** | | | **{100 * mean['base']:.1f}** | **{100 * mean['expert']:.1f}** | |")
    return "\n".join(lines)


def model_card(data: DataSet, figures: dict[str, Any], recipe: dict[str, Any]) -> str:
    """The model card in Markdown."""
    listed = "\n".join(f"- `{t.name}` ({len(t.classes)} classes): {t.description}" for t in data.tasks.values())
    tested = ", ".join(f"`{vendor}`" for vendor in sorted(tasks.TEST_VENDORS))
    validated = ", ".join(f"`{vendor}`" for vendor in sorted(tasks.VALIDATION_VENDORS - {"cif"}))
    settings = ", ".join(f"{key} {value}" for key, value in recipe.items() if key != "notes")
    notes = f"\n\n{recipe['notes']}" if recipe.get("notes") else ""
    trained = sum(picture.split == "train" for picture in data.pictures)
    return f"""# PictoCLIP

A CLIP model small enough to ship in a repository ({IMAGE} x {IMAGE} pixels, patches of {PATCH}, {EMBEDDING}-dimensional
embedding, captions of up to {CONTEXT} tokens; 2.8 million parameters in the vision tower, 3.6 million in all), trained
from scratch on captioned pictograms, with eight experts fine-tuned from it. It exists to show model merging on real
weights and real test pictures without any download. It is a teaching model, not a general image classifier.

```python
import open_clip
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:assets/pictoclip")
tokenizer = open_clip.get_tokenizer("local-dir:assets/pictoclip")
```

`open_clip_model.safetensors` is the base (vision and text), `experts/TASK.safetensors` the vision tower of an expert
with open_clip's names; the text tower of every expert is the base's. All weights are float16.

## Tasks
{listed}

Class names and prompt templates are in `tasks.json`, shipped pictures in `samples/` (`split` 0 is validation, 1 is
test). The handwritten digits lie in `samples/mnist/` with a notice of their own: they are the one part of this folder
that is under a share-alike licence.

## Accuracy
Top-1 accuracy in percent on the shipped test pictures, with Wilson's 95 % interval, computed from the shipped float16
files (`figures.json` holds the same numbers, and those on validation):

{accuracy_table(data, figures)}

## Data
{trained:,} training pictures from the packages in `ATTRIBUTIONS.md`: emoji and icons drawn from SVG, Open Clip Art
drawings, letters from font families, handwritten digits. `python -m neuromerge.zoo build-data` builds the same set
again from pinned versions. `manifest.json` lists the digest of every training source of the base and of each expert and
of every shipped picture.

Splits are by source, never at random:
- animals, food, places, faces: the emoji sets {tested} and held-out Open Clip Art authors test;
  {validated}, a few smileys of `streamline-freehand-color` and other authors
  validate. No picture of a test or validation emoji set is trained on.
- flags: square-cut flags of `twemoji`, `flag` and `flagpack` train, `cif` validates, the round `emojione` flags test.
- letters: whole font families are held out; test and validation families are handwriting and display faces.
- digits: contiguous blocks of the MNIST files, with a gap between them (the files carry no writer ids).
- styles: which collection drew the picture; some subjects are held out in every style.

Near-duplicates between splits (equal normalised source, equal or nearly equal thumbnail or perceptual hash) were
removed: from validation where they resembled a test picture, from training where they resembled either.

## Recipe
The base was trained with a symmetric contrastive loss (equal captions in a batch count as one), AdamW, warm-up, a
constant and a linearly falling learning rate, and a moving average of its weights. Every picture has a pool of
captions: its own name for a share of the pictures ({_told("fine")}), its class name for fewer
({_told("class")}; of letters, {100 * captions.LETTERS_TOLD[0]:.0f} % in plain typefaces and
{100 * captions.LETTERS_TOLD[1]:.0f} % in others; typed digits {100 * captions.TYPED_DIGITS_TOLD:.0f} %, handwritten
digits never), broad captions ("a picture of nature") for all.

Experts start from the published base; only the vision tower is trained, against the frozen zero-shot head, with a small
learning rate and a cosine schedule. In every step an expert also sees some of the base's training pictures that are not
of its task, without any names, and is held to the base's embeddings of them (squared distance; "learning without
forgetting", Li and Hoiem 2016). Large models change little outside a task by themselves; a model of this size must be
asked to, or the experts' changes destroy each other when they are added.

Settings: {settings}.{notes}

Choices were made on validation pictures and on the regime that merging needs (zero-shot well below the experts, task
vectors of a few percent of the base's norm, merges between the two), never by which merging method does best.

## Limits
- It knows pictograms. Photographs, drawings with many objects and small text are outside what it has seen.
- Its text tower knows the words of its captions (a vocabulary of 3,000 word pieces), in English.
- Test sets are small: read the intervals. Flags of different countries can look the same at 48 pixels.
- Class rules follow the names that sources give; a few pictures are ambiguous (a tomato is a vegetable here).
- What emoji sets draw, and how they draw people, is biased; the tasks leave people out for the most part.
"""


def _told(which: str) -> str:
    column = 0 if which == "fine" else 1
    told = {name: share[column] for name, share in captions.TOLD.items() if name != "digits"}
    return ", ".join(f"{name} {100 * value:.0f} %" for name, value in told.items())


def attributions(data: DataSet) -> str:
    """Who drew the pictures, under which licence, in Markdown."""
    used = {picture.source for picture in data.pictures}
    lines = [
        "# Attributions",
        "",
        "The models in this folder were trained on, and the sample images are drawn from, the following works. The SVG",
        "drawings were rendered at 48 x 48 pixels on white; nothing else was changed.",
        "",
        "| source | package | licence | use |",
        "|---|---|---|---|",
    ]
    for source in sources.SOURCES.values():
        if source.name not in used and source.name != "unicode-emoji-json":
            continue
        roles = sorted({p.split for p in data.pictures if p.source == source.name})
        use = ", ".join(roles) or "names and groups of emoji"
        package = f"`{source.package}` {source.version}"
        lines.append(f"| [{source.credit}]({source.url}) | {package} | {source.licence} | {use} |")
    fonts = json.loads(sources.FONT_VERSIONS.read_text())
    lines += [
        "",
        "Licences: [Apache 2.0](https://www.apache.org/licenses/LICENSE-2.0),",
        "[MIT](https://opensource.org/license/mit), [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/),",
        "[CC BY 3.0](https://creativecommons.org/licenses/by/3.0/),",
        "[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/). MNIST pictures: see `samples/mnist/NOTICE`.",
        "Game Icons are by Lorc, Delapouite, John Colburn, Felbrigg, John Redman, Carl Olsen, Sbed, PriorBlue,",
        "Willdabeast, Viscious Speed, Lord Berandas, Irongamer, HeavenlyDog, Lucas, Faithtoken, Skoll, Andy Meneely,",
        "Cathelineau, Kier Heyl, Aussiesim, Sparker, Zeromancer, Rihlsul, Quoting, Guard13007, DarkZaitzev,",
        "SpencerDub, GeneralAce135, Zajkonur, Catsu, Starseeker, Pepijn Poolman, Pierre Leducq and Caro Asercion",
        "(https://game-icons.net/about.html#authors).",
        "",
        "Typefaces (letters are drawn from them; no font is shipped), npm packages `@fontsource/NAME`:",
        "",
        ", ".join(f"{name} {pin['version']} ({pin['licence']})" for name, pin in sorted(fonts.items())) + ".",
        "",
    ]
    return "\n".join(lines)
