"""Colours of runs: a run alone has its method's, several of one method stay apart, in grey too."""

import itertools

from matplotlib.colors import to_hex, to_rgb

from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.report.style.drawing import file_name, run_colours


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
