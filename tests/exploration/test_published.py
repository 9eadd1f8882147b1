"""What others printed, beside what is measured here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuromerge.engine.accuracy import Accuracy
from neuromerge.evaluation.families import get_family
from neuromerge.evaluation.samples import SampleSet
from neuromerge.exploration.published import differences, published_means, remarks
from neuromerge.interface.components.controls import short_title
from neuromerge.settings.choices import make_setting

FAMILY = get_family("clip-vit-base-patch32")


def test_figures_of_a_suite_stand_beside_the_same_suite_and_method_only():
    eight = make_setting(FAMILY, FAMILY.default_tasks, "ties")
    (said,) = published_means(FAMILY, eight)
    assert "Published for TIES" in said
    assert "72.4 % (Fang et al., EMNLP 2025 (NeuroMerging); no validation data)" in said
    assert "72.2 % (FusionBench" in said
    assert published_means(FAMILY, make_setting(FAMILY, FAMILY.default_tasks[:7], "ties")) == ()
    assert published_means(FAMILY, make_setting(FAMILY, list(FAMILY.experts)[:14], "ties")) == ()
    assert published_means(FAMILY, make_setting(FAMILY, FAMILY.default_tasks, "wudi")) == ()


def test_a_model_that_is_not_what_was_published_is_named_with_both_numbers():
    setting = make_setting(FAMILY, ["mnist", "dtd"])
    right, wrong = Accuracy.of(199, 200), Accuracy.of(120, 200)
    (said,) = differences(FAMILY, setting, {}, {"mnist": wrong, "dtd": Accuracy.of(159, 200), "svhn": wrong})
    assert said.startswith(
        "Handwritten digits (MNIST): the expert differs from the published 99.6: 60.0 on 200 pictures"
    )
    assert differences(FAMILY, setting, {}, {"mnist": right}) == ()
    (said,) = differences(FAMILY, setting, {"dtd": Accuracy.of(180, 200)}, {})
    assert "Textures (DTD): the base differs from the published 44.2" in said
    everything = make_setting(FAMILY, FAMILY.default_tasks)
    told = differences(FAMILY, everything, {}, dict.fromkeys(FAMILY.default_tasks, Accuracy.of(10, 200)))
    assert len(told) == 4
    assert told[-1].startswith("So do 5 more")


def test_pictures_of_few_classes_are_named_and_not_held_against_all():
    classes = FAMILY.tasks["sun397"].shown_classes
    labels = np.repeat(np.arange(12), 17)
    few = SampleSet(
        np.zeros((len(labels), 2, 2, 3), np.uint8),
        labels,
        classes,
        tuple(map(str, range(len(labels)))),
        "sun397",
        "validation",
        "key",
        revision="a" * 40,
        empty=classes[12:],
    )
    setting, wrong = make_setting(FAMILY, ["sun397", "mnist"]), Accuracy.of(60, 204)
    scores = {"sun397": wrong, "mnist": wrong}
    differing, said = remarks(FAMILY, setting, {}, scores, {"sun397": few})
    assert "(MNIST): the expert differs" in differing
    assert said.startswith("Scenes (SUN397): the pictures that were fetched show 12 of 397 classes")
    assert "12 of 397 classes are seen" in few.notes[0]
    many = replace(few, labels=np.arange(204), empty=classes[204:])
    assert len(remarks(FAMILY, setting, {}, scores, {"sun397": many})) == 2, "both differ from what was published"


def test_pictures_of_another_commit_than_the_pinned_one_are_named_on_the_board():
    pinned = FAMILY.tasks["dtd"].samples.revision
    samples = SampleSet(
        np.zeros((4, 2, 2, 3), np.uint8), np.arange(4), ("a", "b", "c", "d"), tuple("abcd"), "dtd", "validation", "key"
    )
    setting = make_setting(FAMILY, ["dtd", "sun397"])
    assert pinned
    assert not FAMILY.tasks["sun397"].samples.revision
    read = {"dtd": replace(samples, revision=pinned), "sun397": replace(samples, revision="b" * 40)}
    assert remarks(FAMILY, setting, {}, {}, read) == ()
    read["dtd"] = replace(samples, revision="c" * 40)
    (said,) = remarks(FAMILY, setting, {}, {}, read)
    assert f"Textures (DTD) (ccccccc in the place of {pinned[:7]})" in said


@pytest.mark.parametrize("name", ["clip-vit-base-patch32", "clip-vit-base-patch16", "clip-vit-large-patch14"])
def test_suites_are_the_first_of_the_experts(name):
    family = get_family(name)
    assert family.suites == (8, 14, 20)
    assert tuple(list(family.experts)[:8]) == family.default_tasks
    assert len(family.experts) == 20


@pytest.mark.parametrize(
    ("task", "title"),
    [("fer2013", "FER2013"), ("pcam", "PatchCamelyon"), ("dtd", "Textures (DTD)"), ("stl10", "STL-10")],
)
def test_labels_are_proper_names(task, title):
    assert short_title(FAMILY, task).endswith(title)
