"""Questions of validation and test that are in what is learned from."""

import gin
import pytest
from riddles import RIDDLES, write_jsonl
from test_belonging import config
from test_seqio_tasks import write_rationales
from test_subsets import choose

from stepdistill_jax import datasets
from stepdistill_jax.datasets.lineage.mixed_data import MixedData
from stepdistill_jax.engine.data import contents


@pytest.fixture(autouse=True)
def _no_bindings():
    yield
    gin.clear_config()


@pytest.fixture
def leaky(register_dataset, data_folder, source_folder):
    """leaky(**settings): riddles of which five test questions are in train, too, one in other case and spaces."""

    def make(**settings):
        dataset = register_dataset(**settings)
        changed = {**RIDDLES[7], "question": f"  {RIDDLES[7]['question'].upper().replace(' ', '  ')}"}
        write_jsonl(source_folder / "test.jsonl", [*RIDDLES[10:], *RIDDLES[2:6], changed])
        manifest = datasets.prepare("riddles", from_folder=source_folder)
        write_rationales(data_folder)
        return dataset, manifest

    return make


def test_all_five_are_named_and_prepare_says_so(leaky):
    _, manifest = leaky()
    assert manifest["notes"][1:] == [
        "test shares 5 questions with train, riddles/test/2 is riddles/train/2: training refuses them"
    ]
    for name in ("riddles_label", "riddles_step_by_step", "riddles_rationale", "riddles_rationale_as_input"):
        with pytest.raises(MixedData) as caught:
            contents.check_together(config(name))
        message = str(caught.value)
        assert "5 of the 7 questions of " in message
        for row, learned in ((2, 2), (3, 3), (4, 4), (5, 5), (6, 7)):
            assert f"riddles/test/{row} (as riddles/train/{learned})" in message
        assert "\n" not in message


def test_a_dataset_may_say_that_it_is_so_on_purpose(leaky, capsys):
    leaky(shared_questions="the authors ask some twice")
    assert contents.check_together(config()) == []
    said = capsys.readouterr().err
    assert "5 of the 7 questions" in said
    assert "That is so on purpose: the authors ask some twice" in said


def test_evaluation_is_not_refused(leaky):
    leaky()
    assert contents.check_together(config("riddles_label", "test")) == []


def test_an_augmentation_must_not_hold_test_questions_either(
    register_dataset, data_folder, source_folder, tmp_path
):
    register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    write_rationales(data_folder)
    register_dataset(name="more_riddles", files={"train": ["train.jsonl"]})
    published = tmp_path / "more"
    published.mkdir()
    write_jsonl(published / "train.jsonl", [*RIDDLES[:2], RIDDLES[11]])
    datasets.prepare("more_riddles", from_folder=published)
    write_rationales(data_folder, splits=("train",), name="more_riddles")
    assert contents.check_together(config()) == []
    choose(augmentation="more_riddles")
    with pytest.raises(MixedData, match=r"1 of the 2 questions .*riddles/test/1 \(as more_riddles/train/2\)"):
        contents.check_together(config())
