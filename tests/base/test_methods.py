"""One table of methods: every fact of it is of use, and no two look alike."""

import itertools

import numpy as np
import pytest

from stepdistill_jax.base.methods import METHODS, method_of_task, words_of


def linear(digits):
    """The light of one of a colour's parts, 'rr' as sRGB has it, 0 to 1."""
    part = int(digits, 16) / 255
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def lightness(colour):
    """Relative luminance of '#rrggbb' (WCAG 2.1), 0 to 1."""
    parts = [linear(colour[i : i + 2]) for i in (1, 3, 5)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize("fact", ["name", "words", "colour", "task_ending"])
def test_no_two_methods_share_a(fact):
    values = [getattr(method, fact) for method in METHODS.values()]
    assert len(set(values)) == len(METHODS)


def test_every_colour_can_be_seen_on_white():
    assert all((1.0 + 0.05) / (lightness(method.colour) + 0.05) > 2.0 for method in METHODS.values())


# Linear RGB as it is seen without one kind of cone: Machado et al. 2009 (IEEE TVCG 15: 1291-1298), severity 1.0.
SEEN = {
    "all cones": np.eye(3),
    "no red cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def cielab(colour, seen):
    """L*, a*, b* (CIE 1976, white D65) of '#rrggbb' as seen."""
    rgb = np.clip(np.asarray(seen) @ [linear(colour[i : i + 2]) for i in (1, 3, 5)], 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = (
        np.cbrt(value) if value > 0.008856 else 7.787 * value + 16 / 116
        for value in xyz / [0.9505, 1.0, 1.089]
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEEN)
def test_no_two_colours_are_near_each_other_for_whoever_looks(eyes):
    seen = {name: cielab(method.colour, SEEN[eyes]) for name, method in METHODS.items()}
    distances = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
    assert len(distances) == 28
    assert min(distances.values()) > 15.0, min(distances, key=distances.get)  # 2.3 is just noticeable


def test_baselines_have_labels_alone_and_gold_ones_come_first():
    assert [name for name, method in METHODS.items() if method.is_baseline] == [
        "fine_tuning",
        "task_distillation",
    ]


@pytest.mark.parametrize("method", [method for method in METHODS.values() if method.is_trained], ids=str)
def test_a_task_s_name_says_dataset_and_method(method):
    assert method_of_task(f"my_cqa_{method.task_ending}") == ("my_cqa", method)


def test_a_task_of_another_kind_has_no_method():
    assert method_of_task("cqa_rationale") is None
    assert method_of_task("something") is None
    assert words_of("my_own_way") == "my own way"
