"""Colours of runs: a run alone has its method's, several of one method stay apart, in grey too."""

import itertools
import re
import warnings

from matplotlib.colors import to_hex, to_rgb

from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.report.style.drawing import (
    distinct_file_names,
    file_name,
    is_drawable,
    run_colours,
    save_figure,
)


def grey(colour):
    return sum(part * weight for part, weight in zip(to_rgb(colour), (0.2126, 0.7152, 0.0722), strict=True))


def test_a_run_alone_has_the_colour_of_its_method():
    colours = run_colours(["fine_tuning", "step_by_step"])
    assert colours == [to_hex(METHODS[name].colour) for name in ("fine_tuning", "step_by_step")]


def test_runs_of_one_method_go_from_dark_to_light():
    colours = run_colours(["step_by_step", "fine_tuning", "step_by_step", "step_by_step"])
    shades = [grey(colours[place]) for place in (0, 2, 3)]
    assert shades == sorted(shades)
    assert all(abs(a - b) > 0.1 for a, b in itertools.combinations(shades, 2))
    assert colours[1] == to_hex(METHODS["fine_tuning"].colour)


def test_a_file_name_has_nothing_that_file_systems_read():
    assert file_name("cqa-runs/a b:c") == "cqa-runs_a_b_c"


def test_names_that_give_the_same_file_name_get_one_each():
    assert distinct_file_names(["a b", "a/b", "A_b", "c"]) == ["a_b", "a_b-2", "A_b-3", "c"]


def test_the_font_has_letters_of_europe_and_no_chinese():
    assert is_drawable("Größe: 5 €")
    assert not is_drawable("日本語")


def _draw(text, colour, folder):
    return save_figure(
        "a", "A", lambda axes: axes.text(0.5, 0.5, text, color=colour), "words", "n = 1", folder=folder
    )


def test_white_text_stays_white_on_the_page_and_the_ground_goes(tmp_path):
    svg = _draw("12", "white", tmp_path).inline_svg
    assert len(re.findall("fill: #ffffff", svg)) == 1
    assert svg.count("fill: none") >= 2


def test_a_dollar_sign_begins_no_formula_and_a_missing_character_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = _draw(r"$x_1$ $\oops 日本", "black", tmp_path)
    assert figure.png.stat().st_size > 1_000
