"""The job of a language model: examples -> requests -> answers in a store -> records, resumable at every point."""

import asyncio
import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.datasets import record_io
from stepdistill_jax.teacher.answers import records
from stepdistill_jax.teacher.answers.completions import Completion
from stepdistill_jax.teacher.answers.language_model import LanguageModel, Prompting
from stepdistill_jax.teacher.answers.requests import Answer, Failure
from stepdistill_jax.teacher.asking import answer_files, dry_run
from stepdistill_jax.teacher.asking.answer_store import AnswerStore
from stepdistill_jax.teacher.asking.display import Display, duration
from stepdistill_jax.teacher.asking.in_parallel import Asking, too_many_failed
from stepdistill_jax.teacher.asking.job_settings import JobSettings
from stepdistill_jax.teacher.asking.meter import Meter
from stepdistill_jax.teacher.asking.pending import Lookup, Pending, looked_up, unanswered
from stepdistill_jax.teacher.asking.stopping import JobStopped, stopping_signals
from stepdistill_jax.teacher.prompting.few_shot import PromptSettings, make_prompting


class LanguageModelJob:
    """One dataset, one model, one way of asking."""

    def __init__(
        self,
        dataset: datasets.Dataset,
        model: LanguageModel,
        *,
        settings: JobSettings,
        prompting: Prompting | PromptSettings,
        data_dir: str | os.PathLike[str] | None = None,
    ):
        self._dataset, self._model, self._settings, self._data_dir = dataset, model, settings, data_dir
        self._prepared = datasets.prepared_manifest(dataset.name, data_dir)
        self._rows = _rows(dataset.name, self._prepared["counts"], settings.rows)
        if isinstance(prompting, PromptSettings):
            prompting = make_prompting(
                dataset,
                model=model,
                settings=prompting,
                labels=fixed_labels(self._examples()),
                examples=self._examples,
            )
        self._prompting = prompting
        self._answers = answer_files.answers_folder(dataset.name, model.name, data_dir)
        self._folder = records.rationales_folder(dataset.name, model.name, data_dir)

    def run(self) -> dict[str, Any]:
        """Does what the settings say: everything, a shard, a merge or a dry run.

        Returns:
          The manifest; of a shard or a dry run, {} (they write no records).

        Raises:
          JobStopped: by SIGINT or SIGTERM.
          ValueError: what a user can mend; nothing that was answered is lost.
        """
        settings = self._settings
        inputs_sha256 = self._inputs_sha256()
        if settings.shard is None and not settings.dry_run:
            manifest = records.up_to_date(self._folder, inputs_sha256)
            if manifest is not None and not manifest["requests"]["failed"]:
                print(
                    f"{self._folder} is up to date: same examples, model, prompt and rules. Nothing was asked."
                )
                return manifest
        with contextlib.ExitStack() as stack:
            if settings.dry_run:
                self._dry_run(stack)
                return {}
            store = stack.enter_context(AnswerStore(answer_files.store_path(self._answers, settings.shard)))
            meter = self._ask_missing(store, self._lookup(store, stack))
            if settings.shard is not None:
                print(
                    f"Shard {settings.shard}: {meter.done:,} examples done, {meter.failed_examples:,} of them failed. "
                    f"When all shards are: the same command with --merge {settings.shard.count}."
                )
                return {}
            return self._write(store, meter, inputs_sha256)

    def _examples(self) -> Iterator[datasets.Example]:
        for split in self._rows:
            yield from self._split_examples(split)

    def _split_examples(self, split: str) -> Iterator[datasets.Example]:
        examples = datasets.stream_examples(self._dataset.name, split, self._data_dir)
        return itertools.islice(examples, self._rows[split])

    def _shard_examples(self) -> Iterator[datasets.Example]:
        shard = self._settings.shard
        examples = self._examples()
        return examples if shard is None else itertools.islice(examples, shard.index, None, shard.count)

    def _num_examples(self) -> int:
        total = sum(self._rows.values())
        shard = self._settings.shard
        return total if shard is None else len(range(shard.index, total, shard.count))

    def _inputs_sha256(self) -> str:
        """SHA-256 of all that the records depend on, but for the answers themselves."""
        return record_io.sha256_of_texts(
            (
                records.FORMAT_VERSION,
                self._model.name,
                self._model.model,
                self._prompting.prompt_hash,
                json.dumps(self._prompting.settings, sort_keys=True),
                repr(self._dataset.completion),
                self._prepared["examples_sha256"],
                str(self._settings.shard_size),
                json.dumps(self._rows),
            )
        )

    def _lookup(self, store: AnswerStore, stack: contextlib.ExitStack) -> Lookup:
        """What is known: by this store, and for a shard by the job without shards that came before."""
        main = answer_files.store_path(self._answers, None)
        if store.path == main or not main.exists():
            return store.replies
        earlier = stack.enter_context(AnswerStore(main, read_only=True))

        def lookup(keys: list[str], *, failures: str) -> dict[str, Any]:
            found = store.replies(keys, failures=failures)
            unknown = [key for key in keys if not isinstance(found.get(key), Answer)]
            return found | earlier.replies(unknown, failures=failures)

        return lookup

    def _dry_run(self, stack: contextlib.ExitStack) -> None:
        main = answer_files.store_path(self._answers, None)
        path = answer_files.store_path(self._answers, self._settings.shard)
        lookup: Lookup = lambda keys, failures: {}  # noqa: E731
        if (path := path if path.exists() else main).exists():
            store = stack.enter_context(AnswerStore(path, read_only=True))
            lookup = self._lookup(store, stack)
        failures = "none" if self._settings.retry_failed else "final"
        chunks = looked_up(self._shard_examples(), self._prompting, lookup, failures=failures)
        print(dry_run.describe(chunks, self._model, prices=self._settings.prices))

    def _ask_missing(self, store: AnswerStore, lookup: Lookup) -> Meter:
        """Asks for what the store lacks; the model is started only if there is something."""
        settings = self._settings
        if settings.merge is not None:
            answer_files.merge_shards(self._answers, settings.merge, store)
        counters = store.counters()
        meter = Meter(
            self._num_examples(),
            settings.prices,
            (counters["prompt tokens"], counters["completion tokens"]),
        )
        known = "all" if settings.merge else "none" if settings.retry_failed else "final"
        chunks = unanswered(looked_up(self._shard_examples(), self._prompting, lookup, failures=known), meter)
        first = next((chunk for chunk in chunks if chunk), None)
        if first is not None:
            if settings.merge is not None:
                raise ValueError(self._missing_in_merge(itertools.chain([first], chunks)))
            asyncio.run(self._ask(store, lookup, meter, itertools.chain([first], chunks)))
        if meter.failed_examples > settings.max_failed * meter.total:
            raise ValueError(too_many_failed(meter, settings.max_failed))
        return meter

    def _missing_in_merge(self, chunks: Iterable[list[Pending]]) -> str:
        missing = [pending.example.example_id for chunk in chunks for pending in chunk]
        position = next(
            place for place, example in enumerate(self._examples()) if example.example_id == missing[0]
        )
        shards = self._settings.merge or 1
        return (
            f"--merge {shards}: {len(missing):,} examples have no answer yet, the first is {missing[0]}, of shard "
            f"{position % shards}/{shards}; start that again with the same settings, then merge."
        )

    async def _ask(
        self, store: AnswerStore, lookup: Lookup, meter: Meter, chunks: Iterator[list[Pending]]
    ) -> None:
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            if hasattr(self._model, "__aenter__"):
                await stack.enter_async_context(self._model)
            asking = Asking(
                self._model, self._prompting, store, lookup=lookup, settings=settings, meter=meter
            )
            places = asking.places
            display = Display(
                f"{self._dataset.name} by {self._model.name}{f', shard {settings.shard}' if settings.shard else ''}",
                meter,
                lambda: (places.under_way, int(places.limit)),
            )
            stopped = stack.enter_context(stopping_signals(asking, display, settings.stop_seconds))
            display.start()
            showing = asyncio.create_task(display.run())
            try:
                await asking.run(chunks)
            finally:
                showing.cancel()
                display.stop()
            if stopped:
                raise JobStopped(
                    f"stopped by {stopped[0].name} after {duration(meter.seconds)}: {meter.done:,} of {meter.total:,} "
                    f"examples are done, and every answer is kept in {store.path}; the same command goes on.",
                    stopped[0],
                )

    def _write(self, store: AnswerStore, meter: Meter, inputs_sha256: str) -> dict[str, Any]:
        tallies = {split: records.Tally(self._dataset) for split in self._rows}
        failed: Counter[str] = Counter()
        answered_by: set[str] = set()

        def facts() -> dict[str, Any]:
            return {
                **self._facts(answer_files.all_counters(self._answers, store), meter, failed),
                "answered_by": sorted(answered_by),
                "inputs_sha256": inputs_sha256,
            }

        return records.write(
            self._folder,
            self._dataset,
            teacher=self._model.name,
            splits={
                split: self._split_records(split, store, tallies[split], failed, answered_by)
                for split in self._rows
            },
            tallies=tallies,
            facts=facts,
            shard_size=self._settings.shard_size,
        )

    def _split_records(
        self,
        split: str,
        store: AnswerStore,
        tally: records.Tally,
        failed: Counter[str],
        answered_by: set[str],
    ) -> Iterator[dict[str, Any]]:
        """Records in the order of the examples; depends on the stored answers and on nothing else."""
        chunks = looked_up(self._split_examples(split), self._prompting, store.replies, failures="all")
        for pending in itertools.chain.from_iterable(chunks):
            failed.update(reply.kind for reply in pending.replies.values() if isinstance(reply, Failure))
            verdict = self._prompting.read(pending.example, pending.replies)
            if verdict.answer is None:
                kinds = [reply.kind for reply in pending.replies.values() if isinstance(reply, Failure)]
                tally.skipped[kinds[0] if kinds else "no answer"] += 1
                continue
            tally.notes.update(verdict.notes)
            answered_by.add(verdict.answer.model)
            yield records.make_record(
                pending.example,
                self._completion(verdict.answer, verdict.sampling),
                verdict.parsed,
                teacher=self._model.name,
                dropped_reason=verdict.dropped_reason,
            )

    def _completion(self, answer: Answer, sampling: str) -> Completion:
        return Completion(
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            prompt_hash=self._prompting.prompt_hash,
            sampling=sampling,
        )

    def _facts(self, counters: Counter[str], meter: Meter, failed: Counter[str]) -> dict[str, Any]:
        prompt_tokens, completion_tokens = counters["prompt tokens"], counters["completion tokens"]
        prices = self._settings.prices
        retried = {
            name.removeprefix("retried: "): number
            for name, number in sorted(counters.items())
            if name.startswith("retried: ")
        }
        return {
            "model": self._model.model,
            "server": getattr(self._model, "public_url", ""),
            "prompt_hash": self._prompting.prompt_hash,
            "settings": dict(self._prompting.settings),
            "requests": {
                "asked": counters["asked"],
                "answered": counters["answered"],
                "reused": meter.reused,
                "retried": retried,
                "failed": dict(sorted(failed.items())),
            },
            "tokens": {"prompt": prompt_tokens, "completion": completion_tokens},
            "cost_usd": None if prices is None else round(prices.cost(prompt_tokens, completion_tokens), 6),
            "sources": {},
            "licence": self._dataset.licence,
            "homepage": self._dataset.homepage,
        }


def _rows(name: str, counts: Mapping[str, int], wanted: Mapping[str, int] | None) -> dict[str, int]:
    """Split -> how many of its examples are asked for, the first ones."""
    unknown = sorted(set(wanted or ()) - set(counts))
    if unknown:
        raise ValueError(f"--rows {unknown[0]}=…: {name} has no such split; it has {', '.join(counts)}.")
    rows = {split: counts[split] for split in datasets.SPLITS if counts.get(split)}
    return rows if wanted is None else {s: min(rows[s], wanted[s]) for s in rows if wanted.get(s, 0) > 0}


def fixed_labels(examples: Iterable[datasets.Example]) -> tuple[str, ...]:
    """The labels of a task that has the same choices in every row (entailment, neutral, …), else ().

    CQA has five other choices in each row; an answer that is none of them is wrong rather than unparsed, as in the
    authors' code.
    """
    examples = iter(examples)
    first = next(examples, None)
    if first is None or not first.choices:
        return ()
    return first.choices if all(example.choices == first.choices for example in examples) else ()
