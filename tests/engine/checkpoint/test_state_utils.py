"""T5X's functions on a checkpoint's state, as user code calls them."""

from stepdistill_jax.engine.checkpoint import state_utils

SAVED = {"target": {"kernel": 1, "scale": 2}, "state": {"step": 3}}
OTHER = {"target": {"kernel": 10, "bias": 20}, "state": {"step": 30}}


def test_of_two_states_the_first_s_arrays_are_kept_where_the_second_has_them():
    assert state_utils.intersect_state(SAVED, OTHER) == {"target": {"kernel": 1}, "state": {"step": 3}}
    assert state_utils.intersect_state(SAVED, {}) == {}


def test_two_states_are_one_with_the_first_s_arrays_or_the_second_s_where_both_have_them():
    both = {"target": {"kernel": 1, "scale": 2, "bias": 20}, "state": {"step": 3}}
    assert state_utils.merge_state(SAVED, OTHER) == both
    assert state_utils.merge_state(SAVED, OTHER, overwrite=True) == {
        "target": {"kernel": 10, "scale": 2, "bias": 20},
        "state": {"step": 30},
    }


def test_neither_changes_what_it_was_given():
    state_utils.intersect_state(SAVED, OTHER)
    state_utils.merge_state(SAVED, OTHER, overwrite=True)
    assert SAVED == {"target": {"kernel": 1, "scale": 2}, "state": {"step": 3}}


def test_every_array_gets_its_own_name():
    assert state_utils.get_name_tree(SAVED) == {
        "target": {"kernel": "target/kernel", "scale": "target/scale"},
        "state": {"step": "state/step"},
    }
