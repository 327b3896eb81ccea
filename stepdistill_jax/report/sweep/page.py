"""A sweep's report: SWEEP/report/ with one page that opens offline, tables/ and figures/."""

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from stepdistill_jax.base.version import __version__
from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.report.runs.folder import fit_notes, read_settings
from stepdistill_jax.report.runs.lineage import lineage_of_folders
from stepdistill_jax.report.runs.page import clip, load_template
from stepdistill_jax.report.runs.same_data import check_same_data, data_of
from stepdistill_jax.report.style import table as tables_as_text
from stepdistill_jax.report.sweep.comparisons import compare_groups, noise_sentences
from stepdistill_jax.report.sweep.curves import draw_sweep_curves
from stepdistill_jax.report.sweep.disagreements import disagreements
from stepdistill_jax.report.sweep.figures import draw_sweep_figures
from stepdistill_jax.report.sweep.folder import Sweep, log_file, read_sweep, setting_text
from stepdistill_jax.report.sweep.published import read_published
from stepdistill_jax.report.sweep.tables import run_address, sweep_tables

_TEXTS = {"md": tables_as_text.markdown, "csv": tables_as_text.comma_separated, "tex": tables_as_text.latex}


def write_sweep_report(sweep_folder: Path | str) -> Path:
    """Path of the page on a sweep, SWEEP/report/index.html, with tables/ (Markdown, CSV, LaTeX) and figures/ (SVG, PNG).

    The same bytes for the same runs, in whatever order they finished. SWEEP/published.csv, if it is there, holds
    published accuracies to draw beside ours (`published.COLUMNS`).

    Raises:
      FileNotFoundError: no run of the sweep has finished.
      ValueError: a file of a run is not what a sweep writes; the file is named.
    """
    sweep = read_sweep(Path(sweep_folder).resolve())
    mixed_data = _check_same_data(sweep)
    folder = sweep.folder / "report"
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).iterdir():  # of runs that are no longer there
            old.unlink()
    comparisons = compare_groups(sweep)
    tables = sweep_tables(sweep, comparisons)
    for each in tables:
        for ending, text in _TEXTS.items():
            write_atomically(folder / "tables" / f"{each.name}.{ending}", text(each))
    published = read_published(sweep.folder)
    figures = draw_sweep_figures(sweep, published, folder=folder / "figures")
    curves = list(draw_sweep_curves(sweep, folder=folder / "figures"))
    page = load_template("sweep.html.jinja").render(
        title=_title(sweep.folder),
        summary=_summary(sweep),
        mixed_data=mixed_data,
        lineage=lineage_of_folders(run.folder for run in sweep.runs),
        facts=[setting_text(name, value) for name, value in sweep.constant.items()],
        tables=tables,
        figures=figures,
        curves=curves,
        sentences=[each.sentence for each in comparisons],
        noise=noise_sentences(sweep),
        notes=_notes(sweep),
        disagreements=disagreements(sweep, comparisons),
        address=run_address,
        clip=clip,
        folder=sweep.folder.name,
        version=__version__,
        run_versions=_versions(sweep),
    )
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def _check_same_data(sweep: Sweep) -> list[str]:
    """What the head says of data that do not belong together; raises where that is not allowed."""
    return [
        line
        for dataset in sweep.datasets
        for line in check_same_data(
            [
                data_of(run.run_id, run.folder, {name: each.target for name, each in run.answers.items()})
                for run in sweep.runs
                if run.dataset == dataset
            ]
        )
    ]


def _title(folder: Path) -> str:
    """What the experiment file says it is, else the folder's name."""
    try:
        table = tomllib.loads((folder / "experiment.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        table = {}
    return str(table.get("title") or f"Sweep {folder.name}")


def _summary(sweep: Sweep) -> str:
    done = f"{len(sweep.runs)} finished run{'s' * (len(sweep.runs) > 1)} of {len(sweep.groups)} settings"
    return f"{done} on {', '.join(sweep.datasets)}. Distilling step-by-step (Hsieh et al., 2023)."


def _notes(sweep: Sweep) -> Sequence[str]:
    notes = [run.note for run in sweep.runs if run.note]
    fits = [fit_notes(read_settings(run.folder, []), run.folder) for run in sweep.runs]
    notes += dict.fromkeys(itertools.chain.from_iterable(fits))
    notes += [
        f"failed, and in no table: {run_id}: {visible_line(why)} (whole log: {log_file(Path(), run_id)})"
        for run_id, why in sweep.failures.items()
    ]
    if sweep.unfinished:
        notes.append(f"not finished, and in no table: {', '.join(sweep.unfinished)}")
    return notes


def _versions(sweep: Sweep) -> str:
    """The versions and commits that the runs say they were made with, each once."""
    found = sorted({_version_text(run.result.get("version")) for run in sweep.runs} - {""})
    return ", ".join(found)


def _version_text(version: object) -> str:
    if isinstance(version, Mapping):
        return " ".join(f"{name} {value}" for name, value in sorted(version.items()))
    return "" if version is None else str(version)
