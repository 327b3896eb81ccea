"""Training curves of a sweep's runs: every seed a line, coloured by method."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base.methods import words_of
from stepdistill_jax.report.runs.figures import CURVES, Curve, points
from stepdistill_jax.report.runs.folder import Run, read_run
from stepdistill_jax.report.style.drawing import Figure, method_colours, save_figure
from stepdistill_jax.report.sweep.folder import Group, Sweep

_SHOWN = {"label_loss": "train", "validation_accuracy": "validation"}
_DASHES = ("-", "--", "-.", ":")


def draw_sweep_curves(sweep: Sweep, *, folder: Path) -> Iterable[Figure]:
    """Label loss and validation accuracy of the runs with the most data, once for every student size."""
    for dataset in sweep.datasets:
        by_size: dict[str, list[Group]] = {}
        for group in sweep.students(dataset):
            by_size.setdefault(group.size, []).append(group)
        for size, groups in by_size.items():
            most = max(group.share or 0.0 for group in groups)
            runs = [run for group in groups if (group.share or 0.0) == most for run in group.runs]
            read = [
                read_run(run.folder, name=run.run_id)
                for run in runs
                if (run.folder / "metrics.jsonl").is_file()
            ]
            methods = [run.method for run in runs if (run.folder / "metrics.jsonl").is_file()]
            for curve in CURVES:
                if curve.name in _SHOWN:
                    place = " · ".join(text for text in (dataset, size) if text)
                    yield from _draw(curve, read, methods, place=place, folder=folder)


def _draw(
    curve: Curve, runs: Sequence[Run], methods: Sequence[str], *, place: str, folder: Path
) -> Iterable[Figure]:
    split = _SHOWN[curve.name]
    lines = [(method, found) for run, method in zip(runs, methods, strict=True) if (found := points(run, curve, split))]  # fmt: skip
    if not lines:
        return
    order = list(dict.fromkeys(methods))
    colours = method_colours(order)

    def draw(axes: Any) -> None:
        for method, found in lines:
            axes.plot(
                *zip(*found, strict=True), color=colours[method], linestyle=_DASHES[order.index(method) % 4], linewidth=1.2,
                marker="." if len(found) == 1 else None, alpha=0.85,
            )  # fmt: skip
        for method in order:
            style = _DASHES[order.index(method) % 4]
            axes.plot([], [], color=colours[method], linestyle=style, label=words_of(method))
        axes.set_xlabel("step")
        axes.set_ylabel(curve.axis)
        axes.set_title(f"{curve.title} · {place}", loc="left")
        axes.set_ylim(bottom=0.0)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.17),
            ncols=2,
            fontsize=8,
            frameon=False,
            handlelength=3.6,
        )

    last = [f"{words_of(method)}: {found[-1][1]:.4g} at step {found[-1][0]:,}" for method, found in lines]
    name = f"{place.replace(' · ', '-')}-{curve.name}"
    counts = f"n = {len(lines)} runs, each a line, with the most data"
    yield save_figure(name, f"{curve.title}, {place}", draw, "; ".join(last), counts, folder=folder)
