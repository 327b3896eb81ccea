"""The model card says what someone needs who has nothing but the folder."""

import json

import pytest
from made_up_students import description_of

from stepdistill_jax.exports.checking import Check
from stepdistill_jax.exports.model_card import model_card
from stepdistill_jax.prediction.calibration import Calibration, write_calibration

CONTENT = {
    "fruit/examples/train": {
        "sha256": "ab" * 32,
        "order": "cd" * 32,
        "count": 720,
        "from": {"source": "fruit.csv"},
    },
    "fruit/rationales/big/train": {
        "sha256": "12" * 32,
        "order": "34" * 32,
        "count": 700,
        "from": {"model": "big-model", "server": "http://127.0.0.1:8000/v1"},
    },
}


@pytest.fixture
def card(tmp_path):
    """card(to, **changes of the description) -> its text, of a run that was evaluated at step 7 and calibrated."""

    def make(to="huggingface", *, check=None, **changes):
        row = {"split": "validation", "task": "fruit_label", "num_correct": 90, "num_examples": 100}
        rows = [{**row, "step": 6, "num_correct": 10}, {**row, "step": 7}]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
        write_calibration(tmp_path, Calibration(1.8, 0.123, 0.045, 100, 0.9, "", step=7))
        described = description_of(content=CONTENT, **changes)
        return model_card(tmp_path, tmp_path, described, to=to, quantization="float32", step=7, check=check)

    return make


def test_scores_have_intervals_and_are_of_this_step_alone(card):
    text = card()
    assert "| validation | 90.0 (82.6 to 94.5) | 100 |" in text
    assert "10.0 (" not in text
    assert "calibration error 0.123 before, 0.045 after" in text


def test_data_teacher_method_and_licence_are_named(card):
    text = card(dataset={"name": "fruit", "licence": "CC0", "homepage": "https://example.org/fruit"})
    assert "`fruit/rationales/big/train`" in text
    assert "from big-model at http://127.0.0.1:8000/v1" in text
    assert "step-by-step ([Hsieh et al." in text
    assert "fruit (https://example.org/fruit): CC0." in text


def test_how_it_is_asked_is_said_in_full(card):
    text = card(
        line_break="<br>", label_words={"no": "nope"}, dataset={"name": "fruit", "inputs": "{a}\n{b}"}
    )
    for said in (
        "prefix** `[label] ` in front, with the blank at its end",
        "With `[rationale] ` in its place",
        "cut at 40 tokens",
        "written as `<br>`",
        "Label `no` is written as `nope`",
        '`"{a}\\n{b}"`',
    ):
        assert said in text
    assert "rationale] " not in card(learns_rationales=False)


def test_what_the_check_has_found_is_said(card):
    assert "1 of 200 (0.5 %) labels on validation differ" in card(check=Check(200, 1, 0.03))
    assert "**It was not checked" in card()
    assert "answers were not compared" in card("gguf")


def test_of_a_run_that_left_no_metrics_it_says_so(tmp_path):
    text = model_card(
        tmp_path, tmp_path, description_of(), to="ctranslate2", quantization="int8", step=7, check=None
    )
    assert "no evaluation of it was there" in text
    assert "The run does not say what its data were." in text


def test_labels_are_no_markdown(card):
    text = card(choices=("zeta\n# Evil", "al`pha\x1b[2J"), label_words={"zeta\n# Evil": "z"})
    assert "in this order: `zeta\\n# Evil`, `` al`pha\\x1b[2J ``." in text
    assert "- Label `zeta\\n# Evil` is written as `z`." in text
    assert "\n# Evil" not in text
    assert "\x1b" not in text
