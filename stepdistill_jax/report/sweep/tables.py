"""The tables of a sweep: runs, methods over seeds, paired tests, costs, rationales, and the least that beats the teacher."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.base.methods import TEACHER, words_of
from stepdistill_jax.report.runs.tables import ABSENT, count_text, duration
from stepdistill_jax.report.statistics.paired_tests import over_seeds
from stepdistill_jax.report.style.table import Cell, Column, Table
from stepdistill_jax.report.sweep.comparisons import Comparison, beats_teacher, p_text, teacher_percent
from stepdistill_jax.report.sweep.folder import Group, Sweep
from stepdistill_jax.report.sweep.rationale_quality import rationale_quality
from stepdistill_jax.report.sweep.runs import SweepRun

_TITLES = {"train_share": "Share of data", "rationale_weight": "λ"}


def sweep_tables(sweep: Sweep, comparisons: Sequence[Comparison]) -> list[Table]:
    """Every table that the sweep has numbers for."""
    tables = [_methods(sweep), _comparisons(comparisons), _least(sweep), _costs(sweep), _rationales(sweep), _runs(sweep)]  # fmt: skip
    return [table for table in tables if table.rows]


def _settings(sweep: Sweep) -> tuple[str, ...]:
    names = ("dataset", "method", *(name for name in sweep.varying if name not in ("dataset", "method")))
    return names


def _setting_columns(sweep: Sweep) -> tuple[Column, ...]:
    return tuple(
        Column(_TITLES.get(name, name.replace("_", " ").capitalize()), name, is_number=name in _TITLES)
        for name in _settings(sweep)
    )


def _setting_cells(sweep: Sweep, run: SweepRun) -> tuple[Cell, ...]:
    return tuple(_setting_cell(name, run.settings.get(name)) for name in _settings(sweep))


def _setting_cell(name: str, value: Any) -> Cell:
    if value is None:
        return Cell(ABSENT)
    if name == "method":
        return Cell(words_of(value), value)
    if name == "train_share":
        return Cell(f"{100 * value:g} %", value)
    return Cell(f"{value:g}" if isinstance(value, float) else str(value), value)


def _number(value: float | None, places: int = 1) -> Cell:
    return Cell(ABSENT) if value is None else Cell(f"{value:.{places}f}", value)


def _p_value(value: float | None) -> Cell:
    return Cell(ABSENT) if value is None else Cell(p_text(value).removeprefix("= "), value)


def run_address(run: SweepRun) -> str:
    """Where a run's result lies, from the page."""
    return f"../runs/{quote(run.run_id)}/result.json"


def _seed_links(group: Group) -> tuple[tuple[str, str], ...]:
    if group.method == TEACHER:
        return tuple((f"{run.test.percent:.1f}", run_address(run)) for run in group.runs)
    return tuple((f"seed {run.seed}: {run.test.percent:.1f}", run_address(run)) for run in group.runs)


def _runs(sweep: Sweep) -> Table:
    columns = (
        Column("Run", "run_id", False), *_setting_columns(sweep), Column("Seed", "seed"), Column("Step", "step"),
        Column("Validation (%)", "validation_percent"), Column("Test (%)", "test_percent"),
        Column("Right", "test_num_correct"), Column("Rows", "test_num_examples"),
        Column("95 % from", "test_low"), Column("95 % to", "test_high"), Column("Train examples", "train_examples"),
        Column("Wall time", "wall_seconds"),
    )  # fmt: skip
    rows = []
    for run in sweep.runs:
        test, seconds = run.test, run.number("wall_seconds")
        low, high = wilson_interval(test.num_correct, test.num_examples)
        link = run_address(run)
        tested = run.predictions_file
        answers = (
            (("answers", f"../runs/{quote(run.run_id)}/{quote(tested.relative_to(run.folder).as_posix())}"),)
            if tested
            else ()
        )
        rows.append(
            (
                Cell(run.run_id, run.run_id, ((run.run_id, link),)), *_setting_cells(sweep, run), Cell(str(run.seed), run.seed),
                _count(run.number("step")), _number(run.validation.percent if run.validation else None),
                Cell(f"{test.percent:.1f}", test.percent, ((f"{test.percent:.1f}", link), *answers)),
                _count(test.num_correct), _count(test.num_examples), _number(low), _number(high),
                _count(run.number("train_examples")), Cell(duration(seconds), seconds),
            )
        )  # fmt: skip
    caption = (
        "The step was chosen on validation; test was read once, there. The 95 % interval is Wilson's, over test rows: "
        "differences between seeds are not in it."
    )
    anchors = tuple(f"run-{run.run_id}" for run in sweep.runs)
    return Table("runs", "All runs", caption, columns, tuple(rows), anchors)


def _count(value: float | None) -> Cell:
    return Cell(ABSENT) if value is None else Cell(f"{value:,.0f}", int(value))


def _methods(sweep: Sweep) -> Table:
    columns = (
        *_setting_columns(sweep), Column("Seeds", "num_seeds"), Column("Test (%)", "test_mean_percent"),
        Column("± standard error over seeds", "standard_error_over_seeds"),
        Column("Lowest", "test_min_percent"), Column("Highest", "test_max_percent"),
        Column("95 % over test rows from", "test_rows_low"), Column("95 % over test rows to", "test_rows_high"), Column("Validation (%)", "validation_mean_percent"),
    )  # fmt: skip
    rows = []
    for group in sweep.groups:
        summary = over_seeds(group.percents)
        num_rows = group.first.test.num_examples
        low, high = wilson_interval(round(summary.mean * num_rows / 100), num_rows)
        validation = [run.validation.percent for run in group.runs if run.validation]
        rows.append(
            (
                *_setting_cells(sweep, group.first), _count(summary.num_seeds),
                Cell(f"{summary.mean:.1f}", summary.mean, _seed_links(group)), _number(summary.standard_error),
                _number(min(group.percents)), _number(max(group.percents)), _number(low), _number(high),
                _number(over_seeds(validation).mean if len(validation) == len(group.runs) else None),
            )
        )  # fmt: skip
    caption = (
        "Mean over seeds, and its standard error (sample standard deviation / √n; none from one seed). The 95 % interval over "
        "test rows is Wilson's, of one run with that mean."
    )
    return Table("methods", "Methods, over seeds", caption, columns, tuple(rows))


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    columns = (
        Column("Dataset", "dataset", False), Column("Where", "cell", False), Column("A", "a", False), Column("B", "b", False),
        Column("A − B (points)", "points"), Column("Standard error", "standard_error"), Column("95 % from", "low"),
        Column("95 % to", "high"), Column("p", "p_value"), Column("McNemar's p", "mcnemar_p"), Column("p over seeds", "seeds_p"),
        Column("Rows", "num_examples"),
        Column("Seeds", "num_seeds", False), Column("Verdict", "verdict", False),
    )  # fmt: skip
    rows = []
    for each in comparisons:
        rows.append(
            (
                Cell(each.dataset, each.dataset), Cell(each.where or ABSENT, each.where),
                Cell(each.a.label, each.a.label, _seed_links(each.a)), Cell(each.b.label, each.b.label, _seed_links(each.b)),
                Cell(f"{each.points:+.1f}".replace("-", "−"), each.points), _number(each.standard_error), _signed(each.low), _signed(each.high),
                _p_value(each.p_value), _p_value(each.mcnemar_p), _p_value(each.seeds_p), _count(each.num_examples),
                Cell(f"{len(each.a.runs)} and {len(each.b.runs)}", f"{len(each.a.runs)} {len(each.b.runs)}"),
                Cell(each.verdict, each.verdict),
            )
        )  # fmt: skip
    caption = (
        "Two methods on the same test rows: bootstrap over rows and seeds (10,000 replicates; seeds that both have are drawn together). "
        "With one seed a side, over rows alone, with McNemar's exact test; with several, a difference must pass a t-test over seeds, too. Where answers of one side were not kept, the errors of both sides are "
        f"added instead, and there is no p. Not corrected for the {len(comparisons)} comparisons: up to one in twenty of equal methods looks different."
    )
    return Table("comparisons", "Paired tests", caption, columns, tuple(rows))


def _signed(value: float | None) -> Cell:
    return Cell(ABSENT) if value is None else Cell(f"{value:+.1f}".replace("-", "−"), value)


def _costs(sweep: Sweep) -> Table:
    columns = (
        *_setting_columns(sweep), Column("Test (%)", "test_mean_percent"), Column("Parameters", "parameters"),
        Column("FLOPs a prediction", "flops_per_prediction"), Column("Training FLOPs", "training_flops"),
        Column("Train examples", "train_examples"), Column("Wall time", "wall_seconds"),
    )  # fmt: skip
    rows = []
    for group in sweep.groups:
        cost = {name: group.median(name) for name in ("parameters", "flops_per_prediction", "training_flops", "train_examples", "wall_seconds")}  # fmt: skip
        mean = over_seeds(group.percents).mean
        if group.method != TEACHER and any(value is not None for value in cost.values()):
            rows.append(
                (
                    *_setting_cells(sweep, group.first), Cell(f"{mean:.1f}", mean, _seed_links(group)),
                    Cell(count_text(_whole(cost["parameters"])), _whole(cost["parameters"])),
                    _flops(cost["flops_per_prediction"]), _flops(cost["training_flops"]), _count(cost["train_examples"]),
                    Cell(duration(cost["wall_seconds"]), cost["wall_seconds"]),
                )
            )  # fmt: skip
    caption = "Medians over seeds. Wall time is that of the machines the runs happened to have: compare it within one sweep on one machine."
    return Table("costs", "Cost beside accuracy", caption, columns, tuple(rows))


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _flops(value: float | None) -> Cell:
    return Cell(ABSENT) if value is None else Cell(f"{value:.2e}", value)


def _rationales(sweep: Sweep) -> Table:
    columns = (
        *_setting_columns(sweep), Column("Seed", "seed"), Column("Rows", "num_rows"), Column("ROUGE-1", "rouge_1"),
        Column("ROUGE-L", "rouge_l"), Column("BLEU", "bleu"), Column("Ends at the predicted label (%)", "supports_percent"),
        Column("Teacher's end at the gold label (%)", "teacher_supports_percent"), Column("Words", "mean_words"),
    )  # fmt: skip
    rows = []
    for run in sweep.runs:
        if (
            quality := rationale_quality(run, sweep.teacher_rationales(run) if run.method != TEACHER else {})
        ) is not None:
            rows.append(
                (
                    *_setting_cells(sweep, run), Cell(str(run.seed), run.seed, ((str(run.seed), run_address(run)),)),
                    _count(quality.num_rows), _number(quality.rouge_1), _number(quality.rouge_l), _number(quality.bleu),
                    _number(quality.supports), _number(quality.teacher_supports), _number(quality.mean_words),
                )
            )  # fmt: skip
    caption = (
        "Against the teacher's rationales of the same test rows, at most 1,000 of them, evenly spaced: mean F1 of ROUGE-1 and ROUGE-L (stemmed), and the "
        "corpus's BLEU, 0 to 100. A rationale ends at a label if its last sentence has the label's words, or its last number the label's "
        "value: a rough measure, so the teacher's own share stands beside it."
    )
    return Table("rationales", "Rationales", caption, columns, tuple(rows))


@dataclass(frozen=True)
class Least:
    """The least that a method needs to beat the teacher, of the runs there are: smallest model first, then least data."""

    dataset: str
    label: str
    teacher_percent: float
    group: Group | None


def least_resources(sweep: Sweep) -> Iterable[Least]:
    """For every method of every dataset with a teacher's score."""
    for dataset in sweep.datasets:
        students = [group for group in sweep.students(dataset) if group.median("parameters") is not None]
        if not sweep.teachers(dataset):
            continue
        for label in dict.fromkeys(group.label for group in students):
            winners = [each for each in students if each.label == label and beats_teacher(sweep, each)]
            ranked = sorted(winners, key=lambda each: (each.median("parameters"), each.share or 0.0))
            of_label = next(each for each in students if each.label == label)
            yield Least(dataset, label, teacher_percent(sweep, of_label), ranked[0] if ranked else None)


def _least(sweep: Sweep) -> Table:
    columns = (
        Column("Dataset", "dataset", False), Column("Method", "method", False), Column("Size", "size", False),
        Column("Parameters", "parameters"), Column("Share of data", "train_share"), Column("Test (%)", "test_mean_percent"),
        Column("Teacher (%)", "teacher_percent"),
    )  # fmt: skip
    rows = []
    for least in least_resources(sweep):
        group, teacher = least.group, least.teacher_percent
        start = (Cell(least.dataset, least.dataset), Cell(least.label, least.label))
        if group is None:
            rows.append((*start, Cell("none did"), *[Cell(ABSENT)] * 3, _number(teacher)))
            continue
        mean, parameters = over_seeds(group.percents).mean, _whole(group.median("parameters"))
        rows.append(
            (
                *start, Cell(group.size or ABSENT, group.size), Cell(count_text(parameters), parameters),
                _setting_cell("train_share", group.share), Cell(f"{mean:.1f}", mean, _seed_links(group)), _number(teacher),
            )
        )  # fmt: skip
    caption = (
        "The smallest student whose mean over seeds is above the teacher's accuracy, and the least share of data with which it is: of the runs "
        "there are. Above by how much is in the paired tests."
    )
    return Table("least", "The least that beats the teacher", caption, columns, tuple(rows))
