"""How a method looks in a sweep's figures: the same in all of them, and different from every other, in grey too."""

from types import SimpleNamespace

from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.report.sweep.dots import line_looks


def looks_of(*methods):
    return line_looks([[SimpleNamespace(method=method)] for method in methods])


def test_all_methods_in_one_figure_have_markers_and_colours_of_their_own():
    looks = looks_of(*METHODS)
    assert len({look["marker"] for look in looks}) == len(METHODS)
    assert [look["color"] for look in looks] == [method.colour for method in METHODS.values()]


def test_a_method_looks_the_same_whatever_stands_beside_it():
    alone = looks_of("step_by_step")[0]
    assert looks_of("rationale_then_label", "step_by_step", "mine")[1] == alone
    assert looks_of("fine_tuning", "step_by_step")[1] == alone


def test_lines_of_one_method_have_its_colour_and_markers_of_their_own():
    looks = looks_of(*["step_by_step"] * 9, "fine_tuning")
    assert {look["color"] for look in looks[:9]} == {METHODS["step_by_step"].colour}
    assert len({(look["marker"], str(look["linestyle"])) for look in looks}) == 10
