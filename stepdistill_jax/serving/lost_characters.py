"""Which characters of requests the student's vocabulary does not know: said, each once, as nobody sees it in an answer."""

from collections.abc import Callable, Sequence

from stepdistill_jax.base.text_fit import LINE_BREAK, shown
from stepdistill_jax.serving.batching import Predictor

_MOST = 20  # that are said, and looked for: clients may send anything


class LostCharacters:
    """Looks through the texts of requests, in one thread, until it has said 20 characters."""

    def __init__(self, predictor: Predictor, report: Callable[[str], object]) -> None:
        self._predictor, self._report = predictor, report
        self._said: set[str] = set()

    def look_for(self, texts: Sequence[str]) -> None:
        """Reports those that were not said yet, in a line."""
        if len(self._said) >= _MOST:
            return
        lost = [each for each in self._predictor.lost_characters(texts) if each not in self._said]
        new = lost[: _MOST - len(self._said)]
        self._said.update(new)
        if LINE_BREAK in new:
            self._report("texts have line breaks, which the vocabulary reads as blanks (this is said once)")
        if characters := [shown(each) for each in new if each != LINE_BREAK]:
            self._report(
                f"texts are changed by the vocabulary: it has no {', '.join(characters)} (each is said once"
                f"{f', and no others after {_MOST}' if len(self._said) == _MOST else ''})"
            )
