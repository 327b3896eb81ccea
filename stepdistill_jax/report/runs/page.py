"""One HTML page that opens offline, with the tables and figures beside it as files."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2

from stepdistill_jax.base.methods import words_of
from stepdistill_jax.base.version import __version__
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.report.choices.section import ChoicesSection, choices_section
from stepdistill_jax.report.runs.figures import draw_figures
from stepdistill_jax.report.runs.folder import Prediction, Run, read_runs
from stepdistill_jax.report.runs.lineage import lineage_of_run
from stepdistill_jax.report.runs.same_data import check_same_data, data_of, data_of_teacher
from stepdistill_jax.report.runs.tables import (
    ABSENT,
    COLUMNS,
    Row,
    cells,
    comma_separated,
    comparisons,
    make_rows,
    markdown,
)
from stepdistill_jax.report.runs.teachers import TeacherSection, has_records, read_teacher
from stepdistill_jax.report.style.drawing import Figure, distinct_file_names
from stepdistill_jax.report.style.table import without_html

NUM_SAMPLES = 10
SAMPLE_CHARACTERS = 600  # of an input or a prediction; a longer one ends in "…"
SAMPLE_LINES = 12


@dataclass(frozen=True)
class Sample:
    """One example with the answer of each run, None where a run did not answer it."""

    example_id: str
    inputs: str
    target: str
    predictions: tuple[Prediction | None, ...]


@dataclass(frozen=True)
class Samples:
    """Answers of all runs of a dataset side by side."""

    names: tuple[str, ...]
    rows: tuple[Sample, ...]
    caption: str


@dataclass(frozen=True)
class Section:
    """The figures, choices and samples of one dataset."""

    dataset: str
    figures: tuple[Figure, ...]
    choices: tuple[ChoicesSection, ...]
    samples: Samples | None
    commits: str


def write_report(
    runs: Sequence[Path | str],
    output: Path | str | None = None,
    *,
    teachers: Sequence[Mapping[str, Any] | Path | str] = (),
) -> Path:
    """Path of the page that shows `runs` beside each other: OUTPUT/index.html, with report.md, report.csv, PNG and SVG.

    Args:
      runs: run folders, finished or in progress.
      output: folder to write into; what an earlier report left there is replaced. If None: RUN/report for one run;
        for several, `report-A-vs-B` in the current folder, of the runs' names (`report-A-and-4-others` past three).
      teachers: manifests of rationales (contents, path or folder) whose scores get a row in the table; a folder gets a
        section of its own, too, with lengths, failures and samples.

    Raises:
      FileNotFoundError: a run folder or its metrics.jsonl is missing.
      ValueError: a file in a run folder is not what a run writes; file and line are named.
    """
    found = read_runs([Path(run) for run in runs])
    mixed_data = _check_same_data(found, [Path(each) for each in teachers if _is_folder(each)])
    rows = make_rows(found, teachers)
    folder = Path(output) if output is not None else _default_output(found)
    folder.mkdir(parents=True, exist_ok=True)
    file_names = distinct_file_names([f"{run.dataset}-{run.name}" for run in found])
    titles = dict(zip([run.name for run in found], file_names, strict=True))
    sections = [
        _section(dataset, found, rows, titles, folder=folder)
        for dataset in dict.fromkeys(row.dataset for row in rows)
    ]
    sentences, notes = comparisons(rows), _notes(found, rows)
    write_atomically(folder / "report.csv", comma_separated(rows))
    table = "".join(f"**Mixed data.** {line}\n\n" for line in mixed_data) + markdown(rows)
    write_atomically(
        folder / "report.md", without_html(_markdown_page(_title(found), table, sentences, notes))
    )
    page = load_template("index.html.jinja").render(
        title=_title(found),
        summary=_summary(found),
        mixed_data=mixed_data,
        columns=COLUMNS,
        absent=ABSENT,
        clip=clip,
        table=[cells(row) for row in rows],
        sentences=sentences,
        notes=notes,
        sections=sections,
        teachers=[_clipped_teacher(read_teacher(Path(each))) for each in teachers if _is_folder(each)],
        runs=[
            {"name": run.name, "facts": _facts(run), "lineage": lineage_of_run(run), "config": run.config}
            for run in found
        ],
        command=_command(runs, output),
        version=__version__,
    )
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def _check_same_data(runs: Sequence[Run], teachers: Sequence[Path]) -> list[str]:
    """What the head says of data that do not belong together; raises where that is not allowed."""
    of_teachers = [data_of_teacher(folder) for folder in teachers]
    return [
        line
        for dataset in dict.fromkeys(run.dataset for run in runs)
        for line in check_same_data(
            [data_of(run.name, run.folder, _targets(run)) for run in runs if run.dataset == dataset]
            + of_teachers
        )
    ]


def _targets(run: Run) -> dict[str, str]:
    return {name: prediction.target for name, prediction in _by_id(run, "test").items()}


def _is_folder(teacher: Mapping[str, Any] | Path | str) -> bool:
    return not isinstance(teacher, Mapping) and Path(teacher).is_dir() and has_records(Path(teacher))


def _clipped_teacher(section: TeacherSection) -> TeacherSection:
    samples = [
        replace(
            sample, inputs=clip(sample.inputs), rationale=clip(sample.rationale), label=clip(sample.label)
        )
        for sample in section.samples
    ]
    return replace(section, samples=tuple(samples))


def _default_output(runs: Sequence[Run]) -> Path:
    if len(runs) == 1:
        return runs[0].folder / "report"
    names = [run.name.replace("/", "-") for run in runs]
    return Path(
        "report-" + ("-vs-".join(names) if len(names) <= 3 else f"{names[0]}-and-{len(names) - 1}-others")
    )


def load_template(name: str) -> jinja2.Template:
    """A page's template. Everything put into it is escaped: a prediction may well hold a <script>."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "style" / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _section(
    dataset: str, runs: Sequence[Run], rows: Sequence[Row], titles: Mapping[str, str], *, folder: Path
) -> Section:
    """titles: name of a run -> how its own files begin."""
    order = [row.name for row in rows if row.dataset == dataset]
    ours = sorted((run for run in runs if run.dataset == dataset), key=lambda run: order.index(run.name))
    figures = draw_figures(ours, [row for row in rows if row.dataset == dataset], folder=folder)
    scored = [
        choices_section(run.folder, name=run.name, title=titles[run.name], folder=folder) for run in ours
    ]
    return Section(dataset, tuple(figures), tuple(filter(None, scored)), _samples(ours), _commits(ours))


def _samples(runs: Sequence[Run]) -> Samples | None:
    """The same examples for all runs, from the test split, or from validation while no run has been tested."""
    for split in ("test", "validation"):
        answered = [(run, _by_id(run, split)) for run in runs]
        answered = [(run, predictions) for run, predictions in answered if predictions]
        if answered:
            return _pick_samples(answered, split)
    return None


def _by_id(run: Run, split: str) -> dict[str, Prediction]:
    test = run.test_accuracy() if split == "test" else None
    return {
        prediction.example_id: prediction
        for prediction in run.predictions(split, test.step if test else None)
    }


def _pick_samples(answered: Sequence[tuple[Run, Mapping[str, Prediction]]], split: str) -> Samples:
    first = answered[0][1]
    shared = [example_id for example_id in first if all(example_id in each for _, each in answered)] or list(
        first
    )
    count = min(NUM_SAMPLES, len(shared))
    ids = [shared[i * len(shared) // count] for i in range(count)]
    rows = []
    for example_id in ids:
        predictions = tuple(_clipped(each.get(example_id)) for _, each in answered)
        sample = first[example_id]
        rows.append(Sample(example_id, clip(sample.inputs), clip(sample.target), predictions))
    caption = (
        f"{count} of {len(shared):,} {split} rows, evenly spaced in the order of the file and not chosen by outcome. "
        "✓ and ✗ as the metric of the dataset counts them."
    )
    return Samples(tuple(f"{words_of(run.method)} ({run.name})" for run, _ in answered), tuple(rows), caption)


def clip(text: str) -> str:
    """What is shown of a text: its first lines, and of these the first characters."""
    lines = text.split("\n")
    shown = "\n".join(lines[:SAMPLE_LINES])
    if len(shown) <= SAMPLE_CHARACTERS:
        return shown if len(lines) <= SAMPLE_LINES else shown + "…"
    return shown[: SAMPLE_CHARACTERS - 1] + "…"


def _clipped(prediction: Prediction | None) -> Prediction | None:
    if prediction is None:
        return None
    return Prediction(prediction.example_id, "", "", clip(prediction.prediction), prediction.correct)


def _notes(runs: Sequence[Run], rows: Sequence[Row]) -> list[str]:
    return [f"{each.name}: {note}" for each in (*runs, *rows) for note in each.notes]


def _title(runs: Sequence[Run]) -> str:
    return f"Report on {runs[0].name}" if len(runs) == 1 else f"Report on {len(runs)} runs"


def _summary(runs: Sequence[Run]) -> str:
    datasets = ", ".join(sorted({run.dataset for run in runs}))
    methods = ", ".join(dict.fromkeys(words_of(run.method) for run in runs))
    return f"Dataset: {datasets}. Methods: {methods}. Distilling step-by-step (Hsieh et al., 2023)."


def _commits(runs: Sequence[Run]) -> str:
    commits = list(dict.fromkeys(str(run.settings.get("commit") or "no commit recorded") for run in runs))
    return (
        ", ".join(commit[:10] if " " not in commit else commit for commit in commits) or "no commit recorded"
    )


def _command(runs: Sequence[Path | str], output: Path | str | None) -> str:
    arguments = [*map(str, runs), *(["--output", str(output)] if output is not None else [])]
    return shlex.join(["stepdistill", "report", *arguments])


def _facts(run: Run) -> list[tuple[str, str]]:
    """What run.json says, in words; what it does not say is left out."""
    settings = run.settings
    command = settings.get("command") or ()
    versions = settings.get("versions") or {}
    facts = {
        "Folder": run.folder.name,
        "Command": command if isinstance(command, str) else shlex.join(map(str, command)),
        "Commit": settings.get("commit"),
        "Task or mixture": settings.get("mixture_or_task_name"),
        "Seed": settings.get("seed"),
        "Devices": settings.get("devices"),
        "Started": settings.get("started"),
        "Python": settings.get("python"),
        "Versions": ", ".join(f"{package} {version}" for package, version in sorted(versions.items())),
    }
    return [(term, str(value)) for term, value in facts.items() if value not in (None, "")]


def _markdown_page(title: str, table: str, sentences: Sequence[str], notes: Sequence[str]) -> str:
    parts = [f"# {title}\n", table]
    if sentences:
        parts.append(
            "## Differences in test accuracy\n\n" + "".join(f"- {sentence}\n" for sentence in sentences)
        )
    if notes:
        parts.append("## Notes\n\n" + "".join(f"- {note}\n" for note in notes))
    return "\n".join(parts)
