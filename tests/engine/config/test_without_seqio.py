"""What is left of gin files where nothing is evaluated: all but SeqIO's evaluator and loggers, block by block."""

import pytest

from stepdistill_jax.engine.config.without_seqio import NeedsSeqIO, write_without_seqio


@pytest.fixture
def filtered(tmp_path):
    """filtered(text, left_out=…) -> the text of its copy."""

    def run(text, **arguments):
        (tmp_path / "file.gin").write_text(text)
        into = tmp_path / "copies"
        into.mkdir(exist_ok=True)
        (copy,) = write_without_seqio(["file.gin"], [str(tmp_path)], into, **arguments)
        return open(copy).read()

    return run


def test_the_evaluator_goes_and_everything_else_stays(filtered):
    text = """# a comment
import __main__ as train_script
import seqio
from t5x import models

train_script.train:
  model = @models.EncoderDecoderModel()
  inference_evaluator_cls = @seqio.Evaluator
  total_steps = 10
seqio.Evaluator:
  logger_cls = [@seqio.PyLoggingLogger, @seqio.JSONLogger]
  num_examples = 8
models.EncoderDecoderModel.z_loss = 0.1
"""
    shown = filtered(text)
    assert "seqio" not in shown
    for kept in (
        "# a comment",
        "import __main__",
        "@models.EncoderDecoderModel()",
        "total_steps = 10",
        "z_loss = 0.1",
    ):
        assert kept in shown


def test_a_module_may_be_left_out_by_any_name(filtered):
    text = "import __main__ as script\nfrom t5x import utils\nscript.train.total_steps = 3\nA = @script.train\nB = @utils.x()\n"
    shown = filtered(text, left_out=["__main__"])
    assert shown.split("\n") == ["from t5x import utils", "B = @utils.x()", ""]


@pytest.mark.parametrize(
    "line",
    [
        "VOCABULARY = @seqio.SentencePieceVocabulary()",
        "seqio.SentencePieceVocabulary.extra_ids = 3",
        "X = {'a': [@words.ByteVocabulary]}",
    ],
)
def test_what_a_model_needs_of_seqio_is_not_left_out(filtered, line):
    with pytest.raises(NeedsSeqIO):
        filtered(f"import seqio\nimport seqio as words\n{line}\n")


def test_included_files_are_filtered_too(filtered, tmp_path):
    (tmp_path / "inner.gin").write_text("import seqio\nA = 1\nE = @seqio.Evaluator\n")
    shown = filtered("include 'inner.gin'\nB = 2\n")
    assert "B = 2" in shown
    (inner,) = tmp_path.glob("copies/*inner.gin")
    assert inner.read_text() == "A = 1\n"
    assert str(inner) in shown
