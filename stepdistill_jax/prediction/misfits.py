"""What does not fit a student, of texts that it was asked: said, not passed over."""

from collections.abc import Sequence

from stepdistill_jax.base.line_breaks import write_line_breaks
from stepdistill_jax.base.text_fit import TextsFit, share
from stepdistill_jax.prediction.predictor import Prediction, Predictor


class Misfits:
    """Counts, over any number of texts, those that the vocabulary changes, and those that are cut, as answers may be."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._description = predictor.student.description
        self._fit = TextsFit(predictor.student.vocabulary)
        self._num_texts = self._num_longer = self._num_cut_answers = self._longest = 0

    def add(self, texts: Sequence[str], predictions: Sequence[Prediction]) -> None:
        """Counts these, too, each with its prediction."""
        self._fit.add(write_line_breaks(text, self._description.line_break) for text in texts)
        self._num_texts += len(texts)
        cut = [text for text, prediction in zip(texts, predictions, strict=True) if prediction.truncated]
        lengths = self._predictor.num_tokens(cut)
        num_longer = sum(length > self._predictor.max_input_tokens for length in lengths)
        self._num_longer += num_longer
        self._num_cut_answers += len(cut) - num_longer
        self._longest = max([self._longest, *lengths])

    def sentences(self) -> list[str]:
        """A sentence for each kind; none where all fits."""
        fit = self._fit.fit
        sentences = fit.sentences("{} texts") + fit.line_break_sentences("{} texts")
        if self._num_longer:
            sentences.append(
                f"{share(self._num_longer, self._num_texts)} texts are longer than the {self._predictor.max_input_tokens:,} tokens "
                f"that training cut inputs at, and are cut there; the longest has {self._longest:,}."
            )
        if self._num_cut_answers:
            sentences.append(
                f"{share(self._num_cut_answers, self._num_texts)} answers are cut: they have no end within the "
                f"{self._description.feature_lengths['targets']:,} tokens that training cut targets at."
            )
        return sentences
