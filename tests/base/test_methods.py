"""One table of methods: every fact of it is of use, and no two look alike."""

import pytest

from stepdistill_jax.base.methods import METHODS, method_of_task, words_of


def lightness(colour):
    """Relative luminance of '#rrggbb' (WCAG 2.1), 0 to 1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("fact", ["name", "words", "colour", "task_ending"])
def test_no_two_methods_share_a(fact):
    values = [getattr(method, fact) for method in METHODS.values()]
    assert len(set(values)) == len(METHODS)


def test_every_colour_can_be_seen_on_white():
    assert all((1.0 + 0.05) / (lightness(method.colour) + 0.05) > 2.0 for method in METHODS.values())


@pytest.mark.parametrize("method", [method for method in METHODS.values() if method.is_trained], ids=str)
def test_a_task_s_name_says_dataset_and_method(method):
    assert method_of_task(f"my_cqa_{method.task_ending}") == ("my_cqa", method)


def test_a_task_of_another_kind_has_no_method():
    assert method_of_task("cqa_rationale") is None
    assert method_of_task("something") is None
    assert words_of("my_own_way") == "my own way"
