"""An export that this machine computes otherwise is refused."""

import numpy as np
import pytest

from stepdistill_jax.prediction import probe


class Computed:
    """Log-probabilities of two choices, by a text's length, and shifted."""

    def __init__(self, shift=0.0, choices=2):
        self.shift, self.choices = shift, choices

    def answer_log_probs(self, texts):
        lengths = np.array([[len(text)] * self.choices for text in texts], np.float32)
        return -lengths + np.float32(self.shift)


TEXTS = ["a" * length for length in range(1, 11)]


def test_a_few_texts_are_measured_spread_evenly():
    assert probe.measured(Computed(), TEXTS) == {
        "texts": ["a", "aaaa", "aaaaaaa"],
        "log_probs": [[-1.0, -1.0], [-4.0, -4.0], [-7.0, -7.0]],
    }
    assert probe.measured(Computed(), ["b"]) == {"texts": ["b"], "log_probs": [[-1.0, -1.0]]}


def test_a_small_difference_is_tolerated_and_an_impossible_choice_is_the_same():
    said = probe.measured(Computed(), TEXTS)
    probe.check(Computed(shift=0.4), said, source="out")
    impossible = probe.measured(Computed(shift=-np.inf), TEXTS)
    probe.check(Computed(shift=-np.inf), impossible, source="out")


@pytest.mark.parametrize(
    ("computed", "said"),
    [
        (Computed(shift=2.0), r"^out answers otherwise here .* differ by 2 nats, .* --quantization float32"),
        (Computed(shift=np.nan), "differ by nan nats"),
        (Computed(choices=3), "probe is of another student; export it again"),
    ],
)
def test_a_large_difference_is_refused_with_its_mend(computed, said):
    with pytest.raises(ValueError, match=said):
        probe.check(computed, probe.measured(Computed(), TEXTS), source="out")
