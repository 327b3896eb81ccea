"""Curves of training and dots of test accuracy, as PNG and SVG files and as SVG to put into the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepdistill_jax.base.methods import words_of
from stepdistill_jax.report.runs.folder import Run
from stepdistill_jax.report.runs.tables import Row
from stepdistill_jax.report.style.drawing import (
    INK,
    MARKERS,
    Figure,
    is_drawable,
    method_colours,
    run_colours,
    save_figure,
)


@dataclass(frozen=True)
class Curve:
    """A quantity against step: its key in metrics.jsonl, where it is followed, and what the axis says."""

    name: str
    title: str
    axis: str
    key: str
    splits: tuple[str, ...] = ("train", "validation")
    percent: bool = False


CURVES = (
    Curve("loss", "Loss", "loss as trained (nats)", "loss"),
    Curve("label_loss", "Label loss", "cross-entropy (nats per label token)", "label_loss"),
    Curve("rationale_loss", "Rationale loss", "cross-entropy (nats per rationale token)", "rationale_loss"),
    Curve("label_accuracy", "Label token accuracy", "label tokens right (%)", "label_accuracy", percent=True),
    Curve(
        "validation_accuracy",
        "Validation accuracy",
        "decoded answers right (%)",
        "",
        ("validation",),
        percent=True,
    ),
    Curve("learning_rate", "Learning rate", "learning rate", "learning_rate", ("train",)),
)


def draw_figures(runs: Sequence[Run], rows: Sequence[Row], *, folder: Path) -> list[Figure]:
    """Every figure that the runs of one dataset have numbers for, saved in `folder` as DATASET-NAME.png and .svg."""
    dataset = rows[0].dataset
    colours = dict(zip([run.name for run in runs], run_colours([run.method for run in runs]), strict=True))
    figures = []
    label_losses_are_there = all(run.curve("label_loss", "train") for run in runs)
    for curve in CURVES:
        if curve.name == "loss" and label_losses_are_there:
            continue  # the loss is the sum of the two that follow, which say more
        lines = [
            (run, split, found)
            for run in runs
            for split in curve.splits
            if (found := points(run, curve, split))
        ]
        if lines:
            figures.append(_draw_curve(curve, lines, runs, colours, folder=folder, dataset=dataset))
    if any(row.test for row in rows):
        tested = [row for row in rows if row.test]
        colours |= method_colours([row.method for row in rows if row.name not in colours])  # teachers
        figures.append(
            _draw_test(tested, [run.name for run in runs], colours, folder=folder, dataset=dataset)
        )
    return figures


def points(run: Run, curve: Curve, split: str) -> list[tuple[int, float]]:
    """(step, value) along `curve`; [] where the run has no finite value of it."""
    if not curve.key:
        return [(accuracy.step, accuracy.percent) for accuracy in run.accuracies(split)]
    points = [
        (step, 100.0 * value if curve.percent else value) for step, value in run.curve(curve.key, split)
    ]
    return points if any(math.isfinite(value) for _, value in points) else []


def _draw_curve(
    curve: Curve,
    lines: Sequence[tuple[Run, str, list[tuple[int, float]]]],
    runs: Sequence[Run],
    colours: dict[str, str],
    *,
    folder: Path,
    dataset: str,
) -> Figure:
    def draw(axes: Any) -> None:
        for run, split, points in lines:
            index = runs.index(run)
            every = max(1, len(points) // 8)
            axes.plot(
                *zip(*points, strict=True),
                color=colours[run.name],
                linestyle="-" if split == "train" else "--",
                linewidth=1.6,
                marker=MARKERS[index % len(MARKERS)],
                markevery=(index * every // max(1, len(runs)), every),
                markersize=5,
                markerfacecolor=colours[run.name] if split == "train" else "none",
                clip_on=False,  # a curve of zeros lies on the frame, and is seen
                zorder=3,
            )
        axes.set_xlabel("step")
        axes.set_ylabel(curve.axis)
        axes.set_title(f"{curve.title} · {dataset}", loc="left")
        axes.xaxis.set_major_locator(_locator())
        if curve.percent or curve.key == "learning_rate":
            axes.set_ylim(bottom=0.0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        _legend(axes, lines, runs, colours)

    described = "; ".join(_describe(run, split, points) for run, split, points in lines)
    num_runs = len({run.name for run, _, _ in lines})
    counts = f"n = {num_runs} run{'s' * (num_runs > 1)}"
    if "validation" in {split for _, split, _ in lines} and (rows := _validation_rows(runs)):
        counts += f", {rows} validation rows"
    return save_figure(f"{dataset}-{curve.name}", curve.title, draw, described, counts, folder=folder)


def _draw_test(
    rows: Sequence[Row], run_names: Sequence[str], colours: dict[str, str], *, folder: Path, dataset: str
) -> Figure:
    # The marker of a run is that of its curves; teachers take the ones that follow.
    names = [*run_names, *(row.name for row in rows if row.name not in run_names)]

    def draw(axes: Any) -> None:
        for i, row in enumerate(rows):
            low, high = row.test.interval
            axes.errorbar(
                row.test.percent, -i, xerr=[[row.test.percent - low], [high - row.test.percent]], fmt=MARKERS[names.index(row.name) % len(MARKERS)], color=colours.get(row.name) or colours[row.method],
                markersize=7, elinewidth=1.6, capsize=4,
            )  # fmt: skip
            axes.annotate(
                row.test.text, (row.test.percent, -i), xytext=(0, 9), color=INK,
                textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
        axes.set_yticks(
            [-i for i in range(len(rows))],
            [f"{row.method_name}\n{_short(row.name, i)}" for i, row in enumerate(rows)],
        )
        axes.set_ylim(-len(rows) + 0.4, 0.7)
        axes.set_xlim(*_percent_limits(rows))
        axes.set_xlabel("decoded answers right (%), with Wilson's 95 % interval over test rows")
        axes.set_title(f"Test accuracy · {dataset}", loc="left")

    described = "; ".join(f"{row.title} {row.test.text} %" for row in rows)
    sizes = sorted({row.test.num_examples for row in rows})
    counts = f"n = {' or '.join(f'{size:,}' for size in sizes)} test rows for each line"
    height = max(2.2, 1.2 + 0.62 * len(rows))
    return save_figure(
        f"{dataset}-test_accuracy", "Test accuracy", draw, described, counts, folder=folder, height=height
    )


def _percent_limits(rows: Sequence[Row]) -> tuple[float, float]:
    """The whole scale from 0 when that is readable; never outside of 0 to 100 by more than a label's width."""
    high = max(row.test.interval[1] for row in rows)
    return -4.0, min(104.0, high * 1.15 + 8.0)


def _validation_rows(runs: Sequence[Run]) -> str:
    sizes = sorted({accuracy.num_examples for run in runs for accuracy in run.accuracies("validation")})
    return " or ".join(f"{size:,}" for size in sizes)


def _describe(run: Run, split: str, points: Sequence[tuple[int, float]]) -> str:
    """A curve in words, for who cannot see it: where it starts and where it ends."""
    known = [(step, value) for step, value in points if math.isfinite(value)]
    (first_step, first), (last_step, last) = known[0], known[-1]
    return f"{run.name}, {split}: {first:.4g} at step {first_step:,}, {last:.4g} at step {last_step:,}"


def _short(name: str, place: int) -> str:
    """A run's name with both its ends, as runs often differ by what comes last; its place where the font cannot draw it."""
    if not is_drawable(name):
        return f"run {place + 1}"
    return name if len(name) <= 28 else f"{name[:13]}…{name[-14:]}"


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, integer=True, steps=[1, 2, 2.5, 5, 10])


def _legend(axes: Any, lines: Sequence[Any], runs: Sequence[Run], colours: dict[str, str]) -> None:
    """Colour and marker say the run, the line's style says the split; under the axes, where nothing is hidden."""
    from matplotlib.lines import Line2D

    shown = [run for run in runs if run in [line[0] for line in lines]]
    handles = [
        Line2D([], [], color=colours[run.name], marker=MARKERS[runs.index(run) % len(MARKERS)], markersize=5,
               label=_label(run, runs.index(run)))
        for run in shown
    ]  # fmt: skip
    splits = {split for _, split, _ in lines}
    styles = (("train", "-", INK), ("validation", "--", "none"))
    handles += [
        Line2D(
            [], [], color=INK, linestyle=style, marker="o", markersize=5, markerfacecolor=face, label=split
        )
        for split, style, face in styles
        if split in splits
    ]
    left, right = handles[: len(shown)], handles[len(shown) :]
    style = {"fontsize": 8, "frameon": False, "handlelength": 3.2, "borderaxespad": 0.0}
    names = axes.legend(handles=left, loc="upper left", bbox_to_anchor=(-0.02, -0.17), **style)
    axes.add_artist(names)
    names.set_clip_on(
        False
    )  # a second artist is clipped to the axes otherwise, and left out of the saved box
    axes.legend(handles=right, loc="upper right", bbox_to_anchor=(1.0, -0.17), **style)


def _label(run: Run, place: int) -> str:
    method = words_of(run.method)
    return method if method == run.name else f"{method} ({_short(run.name, place)})"
