"""A student's network as CTranslate2 computes it, from the folder that `stepdistill export --to ctranslate2` wrote."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepdistill_jax.base.usable_cpus import num_threads
from stepdistill_jax.prediction.written import Written

_VOCABULARY = "shared_vocabulary.json"
_WIDEST_BEAM = 32
_SPARE_BEAMS = 2  # for what is no choice, and yet likelier than one
# CTranslate2's own defaults are a beam of 2, 256 tokens and inputs cut at 1,024 without a word: each is set here.
_AS_IS = {"max_input_length": 0, "batch_type": "tokens"}

Tokens = Sequence[int]


class CTranslate2Network:
    """`portable.Network` on CPUs. CTranslate2 is asked with names of tokens; its vocabulary's file says each id's name."""

    def __init__(
        self,
        folder: Path,
        *,
        choices: Sequence[Tokens],
        max_target_tokens: int,
        batch_tokens: int,
        eos_id: int,
    ) -> None:
        """Reads the parameters.

        Args:
          folder: with model.bin, config.json and shared_vocabulary.json.
          choices: their token ids, ends of sequence included; none for open text.
          max_target_tokens: of a written answer, at most.
          batch_tokens: tokens of a batch, padding included.
          eos_id: that ends a sequence.

        Raises:
          ValueError: if CTranslate2 is not installed, or does not read the folder.
        """
        try:
            import ctranslate2
        except ImportError as error:
            raise ValueError(
                f"{folder} is for CTranslate2, which is not installed: pip install ctranslate2."
            ) from error
        try:
            self._translator = ctranslate2.Translator(
                str(folder), device="cpu", inter_threads=1, intra_threads=num_threads()
            )
            self._names: list[str] = json.loads((folder / _VOCABULARY).read_text(encoding="utf-8"))
        except (RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"{folder} is damaged ({error}); export it again.") from error
        self._ids = {name: token for token, name in enumerate(self._names)}
        self._eos_id, self._max_target_tokens, self._batch_tokens = eos_id, max_target_tokens, batch_tokens
        # Scoring adds the end of sequence itself.
        self._choices = [self._named(tokens[:-1]) for tokens in choices]
        self._places = {tuple(names): place for place, names in enumerate(self._choices)}

    def score_choices(self, rows: Sequence[Tokens]) -> np.ndarray:
        """float32 [rows, choices]: log p(choice | row) in nats, ends of sequence included.

        CTranslate2 scores one target a row, and encodes the row each time. So a beam as wide as there are choices is tried
        first, which encodes once and, in a student that has learnt its labels, finds them all with their log-probabilities;
        only those that it has not found are scored one by one.
        """
        sources = [self._named(row) for row in rows]
        scores = np.full([len(rows), len(self._choices)], np.nan, np.float32)
        if 1 < len(self._choices) <= _WIDEST_BEAM - _SPARE_BEAMS:
            self._fill_from_beams(scores, sources)
        missing = np.argwhere(np.isnan(scores))  # [pairs, 2]
        if len(missing):
            results = self._translator.score_batch(
                [sources[row] for row, _ in missing],
                [self._choices[choice] for _, choice in missing],
                max_batch_size=self._batch_tokens,
                **_AS_IS,
            )
            scores[tuple(missing.T)] = [sum(result.log_probs) for result in results]
        return scores

    def write(self, rows: Sequence[Tokens]) -> list[Written]:
        """What the student writes for each row, greedily."""
        results = self._translate(
            [self._named(row) for row in rows], beam_size=1, max_decoding_length=self._max_target_tokens
        )
        return [self._written(result) for result in results]

    def warm_up(self) -> None:
        """Asks once: CTranslate2 compiles nothing, and reserves its memory at the first call."""
        row = [self._eos_id]
        if self._choices:
            self.score_choices([row])
        else:
            self.write([row])

    def _fill_from_beams(self, scores: np.ndarray, sources: Sequence[Sequence[str]]) -> None:
        width = len(self._choices) + _SPARE_BEAMS
        results = self._translate(
            sources,
            beam_size=width,
            num_hypotheses=width,
            max_decoding_length=max(map(len, self._choices)) + 1,
            # A batch holds a row's beams side by side; the encoder, which is most of the work, has one.
            max_batch_size=max(1, self._batch_tokens // 2),
        )
        for row, result in enumerate(results):
            for names, score in zip(result.hypotheses, result.scores, strict=True):
                place = self._places.get(tuple(names[:-1]))
                if place is not None and names[-1] == self._names[self._eos_id]:
                    scores[row, place] = score

    def _translate(self, sources: Sequence[Sequence[str]], **options: Any) -> list[Any]:
        return self._translator.translate_batch(
            sources,
            **{"max_batch_size": self._batch_tokens, **_AS_IS, **options},
            min_decoding_length=0,
            length_penalty=0,  # scores are sums of log-probabilities
            return_end_token=True,
            return_scores=True,
        )

    def _written(self, result: Any) -> Written:
        tokens = [self._ids[name] for name in result.hypotheses[0]]
        is_cut = not tokens or tokens[-1] != self._eos_id
        return Written(tokens if is_cut else tokens[:-1], result.scores[0], is_cut)

    def _named(self, tokens: Tokens) -> list[str]:
        return [self._names[token] for token in tokens]
