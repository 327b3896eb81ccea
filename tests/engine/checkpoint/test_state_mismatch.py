"""A checkpoint of another student is said in a line that can be read."""

from types import SimpleNamespace

import pytest

from stepdistill_jax.engine.checkpoint import state_mismatch
from stepdistill_jax.engine.checkpoint.saved_checkpoint import PARAMETERS


def arrays(width, parts=("wi_0", "wi_1", "wo", "query", "key", "value", "out", "scale")):
    return {
        f"{PARAMETERS}encoder/layers_{layer}/{part}/kernel": SimpleNamespace(shape=(width, 2 * width + place))
        for layer in range(24)
        for place, part in enumerate(parts)
    }


def test_another_student_is_a_short_line_with_the_mend():
    with pytest.raises(ValueError, match="192 arrays differ") as error:
        state_mismatch.check_same_arrays(
            arrays(64), arrays(128), path="run/checkpoint_9", unexpected_allowed=False, optimizer_too=False
        )
    line = str(error.value)
    assert len(line) < 1_000
    assert line.count(" has shape ") == state_mismatch.MOST_NAMED
    assert "and 4 more such" in line
    assert "Use the gin file of the model that was saved" in line


def test_the_same_student_is_nothing_to_say():
    assert (
        state_mismatch.check_same_arrays(
            arrays(64), arrays(64), path="run", unexpected_allowed=False, optimizer_too=False
        )
        is None
    )
