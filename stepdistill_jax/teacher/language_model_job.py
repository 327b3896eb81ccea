"""The job of a language model: examples -> requests -> answers in a store -> records, resumable at every point."""

import asyncio
import contextlib
import functools
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.base.folder_lock import lock_beside
from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.datasets import preparation, record_io
from stepdistill_jax.datasets.lineage.belonging import OF_EXAMPLES, of_examples
from stepdistill_jax.teacher.answers import records, rereading
from stepdistill_jax.teacher.answers.completions import Completion
from stepdistill_jax.teacher.answers.language_model import LanguageModel, Prompting
from stepdistill_jax.teacher.answers.requests import Answer, Failure, Reply, Request
from stepdistill_jax.teacher.asking import answer_files, budgets, dry_run, first_look
from stepdistill_jax.teacher.asking.answer_store import AnswerStore
from stepdistill_jax.teacher.asking.display import Display, duration
from stepdistill_jax.teacher.asking.in_parallel import Asking, too_many_failed
from stepdistill_jax.teacher.asking.job_settings import JobSettings
from stepdistill_jax.teacher.asking.meter import Meter
from stepdistill_jax.teacher.asking.pending import Lookup, Pending, looked_up, unanswered
from stepdistill_jax.teacher.asking.stopping import JobStopped, stopping_signals
from stepdistill_jax.teacher.prompting.few_shot import PromptSettings, make_prompting

_SHOWN = "worked example of the prompt"
_NOT_ASKED = Failure("not asked yet", may_mend=True)


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
        self._left_out: frozenset[str] = frozenset()  # ids of rows that are not asked for
        if isinstance(prompting, PromptSettings):
            prompting = make_prompting(
                dataset,
                model=model,
                settings=prompting,
                labels=dataset.choices or fixed_labels(self._examples()),
                examples=self._examples,
            )
        self._prompting = prompting
        self._left_out = getattr(prompting, "left_out", frozenset())
        self._answers = answer_files.answers_folder(dataset.name, model.name, data_dir)
        self._folder = records.rationales_folder(dataset.name, model.name, data_dir)

    def run(self) -> dict[str, Any]:
        """Does what the settings say: everything, a shard, a merge or a dry run.

        Returns:
          The manifest; of a shard or a dry run, {} (they write no records).

        Raises:
          FolderInUse: if another process does this job.
          JobStopped: by SIGINT or SIGTERM.
          ServerGone: the server can't be reached, or is away for too long.
          ValueError: what a user can mend; nothing that was answered is lost.
        """
        settings = self._settings
        inputs_sha256 = self._inputs_sha256()
        if settings.dry_run:
            with contextlib.ExitStack() as stack:
                self._dry_run(stack)
            return {}
        # Shards go on side by side, each with a file of its own.
        written = (
            self._folder if settings.shard is None else answer_files.store_path(self._answers, settings.shard)
        )
        with lock_beside(written, f"{written} (stepdistill teach)").held():
            return self._run(inputs_sha256)

    def _run(self, inputs_sha256: str) -> dict[str, Any]:
        settings = self._settings
        if settings.reparse:
            return self._reparse(inputs_sha256)
        if settings.shard is None:
            manifest = records.up_to_date(self._folder, inputs_sha256)
            if manifest is not None and not manifest["requests"]["failed"]:
                said = f"{self._folder} is up to date: same examples, model, prompt and rules. Nothing was asked."
                print(visible_line(said))
                return manifest
        with contextlib.ExitStack() as stack:
            path = answer_files.store_path(self._answers, settings.shard)
            store = stack.enter_context(answer_files.open_store(path))
            meter = self._ask_missing(store, self._lookup(store, stack))
            if meter is None:
                print(
                    f"The rest was not asked. The answers are kept in {path}; the same command asks for the rest."
                )
                return {}
            if settings.shard is not None:
                print(
                    f"Shard {settings.shard}: {meter.done:,} examples done, {meter.failed_examples:,} of them failed. "
                    f"When all shards are: the same command with --merge {settings.shard.count}."
                )
                return {}
            return self._write(store, meter, inputs_sha256)

    def _reparse(self, inputs_sha256: str) -> dict[str, Any]:
        """Reads stored answers again, asks nothing, and says what changes."""
        path = answer_files.store_path(self._answers, None)
        if not path.exists():
            raise ValueError(
                f"--reparse: no {path}; answers that shards hold are put together by --merge first."
            )
        with AnswerStore(path, read_only=True) as store:
            lookup = functools.partial(budgets.replies, store)
            chunks = looked_up(self._examples(), self._prompting, lookup, failures="all")
            if not any(pending.replies for chunk in chunks for pending in chunk):
                raise ValueError(
                    f"--reparse: {path} holds no answer to these prompts; give the flags that they were asked with "
                    f"(--prompt, --shots, --max_tokens, --temperature, …)."
                )
            changes = rereading.Changes(self._dataset, self._folder)
            manifest = self._write(store, Meter(self._num_examples()), inputs_sha256, changes)
        print(
            visible_line(
                f"Read {changes.labels.total():,} answers again, asked nothing; {changes.summary()}."
            )
        )
        return manifest

    def _examples(self) -> Iterator[datasets.Example]:
        for split in self._rows:
            yield from self._split_examples(split)

    def _split_examples(self, split: str) -> Iterator[datasets.Example]:
        examples = datasets.stream_examples(self._dataset.name, split, self._data_dir)
        rows = itertools.islice(examples, self._rows[split])
        return (example for example in rows if example.example_id not in self._left_out)

    def _shard_examples(self) -> Iterator[datasets.Example]:
        shard = self._settings.shard
        examples = self._examples()
        return examples if shard is None else itertools.islice(examples, shard.index, None, shard.count)

    def _num_examples(self) -> int:
        total = sum(self._rows.values()) - len(self._left_out)
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
        own: Lookup = functools.partial(budgets.replies, store)
        if store.path == main or not main.exists():
            return own
        earlier = stack.enter_context(AnswerStore(main, read_only=True))

        def lookup(requests: list[Request], *, failures: str) -> dict[str, Reply]:
            found = own(requests, failures=failures)
            unknown = [request for request in requests if not isinstance(found.get(request.key), Answer)]
            return found | budgets.replies(earlier, unknown, failures=failures)

        return lookup

    def _dry_run(self, stack: contextlib.ExitStack) -> None:
        main = answer_files.store_path(self._answers, None)
        path = answer_files.store_path(self._answers, self._settings.shard)
        lookup: Lookup = lambda requests, failures: {}  # noqa: E731
        if (path := path if path.exists() else main).exists():
            store = stack.enter_context(AnswerStore(path, read_only=True))
            lookup = self._lookup(store, stack)
        failures = "none" if self._settings.retry_failed else "final"
        chunks = looked_up(self._shard_examples(), self._prompting, lookup, failures=failures)
        print(dry_run.describe(chunks, self._model, prices=self._settings.prices))

    def _ask_missing(self, store: AnswerStore, lookup: Lookup) -> Meter | None:
        """Asks for what the store lacks; the model is started only if there is something. None if the rest is not wanted."""
        settings = self._settings
        if settings.merge is not None:
            answer_files.merge_shards(self._answers, settings.merge, store, asked=self._asked())
        else:
            store.note_asked(self._asked())
        self._note_earlier_budget(store)
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
            if not asyncio.run(self._ask(store, lookup, meter, itertools.chain([first], chunks))):
                return None
        if meter.failed_examples > settings.max_failed * meter.total:
            raise ValueError(too_many_failed(meter, settings.max_failed))
        return meter

    def _note_earlier_budget(self, store: AnswerStore) -> None:
        """Tells a store of an earlier version with which budget its answers were asked for: the records' manifest knows."""
        manifest = record_io.read_manifest(self._folder) or {}
        sampling = manifest.get("settings", {}).get("sampling", {})
        if isinstance(sampling.get("max_tokens"), int):
            store.note_budget(sampling["max_tokens"])

    def _asked(self) -> dict[str, str]:
        """Split -> identity of the examples that are asked for, or of which the first ones are."""
        known = of_examples(preparation.examples_folder(self._dataset.name, self._data_dir))[OF_EXAMPLES]
        return {split: known[split]["sha256"] for split in self._rows}

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
    ) -> bool:
        """Asks for what the examples lack; whether that was all, rather than the first of them."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            if hasattr(self._model, "__aenter__"):
                await stack.enter_async_context(self._model)
            asking = Asking(
                self._model, self._prompting, store, lookup=lookup, settings=settings, meter=meter
            )
            await asking.check_server()
            places = asking.places
            display = Display(
                f"{self._dataset.name} by {self._model.name}{f', shard {settings.shard}' if settings.shard else ''}",
                meter,
                lambda: (places.under_way, int(places.limit)),
                notice=asking.notice,
            )
            stopped = stack.enter_context(stopping_signals(asking, display, settings.stop_seconds))
            display.start()
            showing = asyncio.create_task(display.run())
            try:
                goes_on = await self._look_first(asking, display, chunks)
            finally:
                showing.cancel()
                display.stop()
            if stopped:
                raise JobStopped(
                    f"stopped by {stopped[0].name} after {duration(meter.seconds)}: {meter.done:,} of {meter.total:,} "
                    f"examples are done, and every answer is kept in {store.path}; the same command goes on.",
                    stopped[0],
                )
            return goes_on

    async def _look_first(self, asking: Asking, display: Display, chunks: Iterator[list[Pending]]) -> bool:
        """Asks for all, or for the first examples alone where these are shown and somebody does not want the rest."""
        settings, meter = self._settings, asking.meter
        is_new = settings.shard is None and not meter.reused and hasattr(self._prompting, "anew")
        if settings.first and is_new:
            head, chunks = first_look.parted(chunks, settings.first)
            if head:
                await asking.run(iter([head]))
                if asking.stopping:
                    return True
                display.stop()
                first_look.show(head, self._prompting.anew(), self._dataset, meter)
                if settings.is_attended and not await first_look.goes_on(lambda: asking.stopping):
                    return False
                display.start()
        await asking.run(chunks)
        return True

    def _write(
        self, store: AnswerStore, meter: Meter, inputs_sha256: str, changes: rereading.Changes | None = None
    ) -> dict[str, Any]:
        tallies = {split: records.Tally(self._dataset) for split in self._rows}
        if self._left_out:
            tallies["train"].skipped[_SHOWN] = len(self._left_out)
        failed: Counter[str] = Counter()
        answered_by: set[str] = set()

        def facts() -> dict[str, Any]:
            return {
                **self._facts(answer_files.all_counters(self._answers, store), meter, failed),
                "answered_by": sorted(answered_by),
                "inputs_sha256": inputs_sha256,
                **({} if changes is None else {"reread": dict(sorted(changes.labels.items()))}),
            }

        def split_records(split: str) -> Iterator[dict[str, Any]]:
            rows = self._split_records(split, store, tallies[split], failed, answered_by)
            return rows if changes is None else changes.passing(split, rows)

        return records.write(
            self._folder,
            self._dataset,
            teacher=self._model.name,
            splits={split: split_records(split) for split in self._rows},
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
        lookup = functools.partial(budgets.replies, store)
        chunks = looked_up(self._split_examples(split), self._prompting, lookup, failures="all")
        for pending in itertools.chain.from_iterable(chunks):
            if self._settings.reparse:
                pending.replies.update((request.key, _NOT_ASKED) for request in pending.missing)
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
                "altered": counters["altered"],  # answers in which a key that the server sent back was hidden
                "reused": meter.reused,
                "retried": retried,
                "failed": dict(sorted(failed.items())),
            },
            "tokens": {"prompt": prompt_tokens, "completion": completion_tokens},
            "cost_usd": None if prices is None else round(prices.cost(prompt_tokens, completion_tokens), 6),
            "sources": {},
            **of_examples(preparation.examples_folder(self._dataset.name, self._data_dir)),
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
