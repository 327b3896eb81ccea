"""Training curves of a sweep's runs: every seed a line; settings of one method are told apart by shade and dashes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.report.runs.figures import CURVES, Curve, points
from stepdistill_jax.report.runs.folder import Run, read_run
from stepdistill_jax.report.style.drawing import Figure, run_colours, save_figure
from stepdistill_jax.report.sweep.folder import Group, Sweep

_SHOWN = {"label_loss": "train", "rationale_loss": "train", "validation_accuracy": "validation"}
_DASHES = ("-", "--", "-.", ":")


def draw_sweep_curves(sweep: Sweep, *, folder: Path) -> Iterable[Figure]:
    """Both losses and validation accuracy of the runs with the most data, once for every student size."""
    for dataset in sweep.datasets:
        by_size: dict[str, list[Group]] = {}
        for group in sweep.students(dataset):
            by_size.setdefault(group.size, []).append(group)
        for size, groups in by_size.items():
            most = max(group.share or 0.0 for group in groups)
            shown = [group for group in groups if (group.share or 0.0) == most]
            read = {group.label: (group.method, _read(group)) for group in shown}
            place = " · ".join(text for text in (dataset, size) if text)
            for curve in CURVES:
                if curve.name in _SHOWN:
                    yield from _draw(curve, read, place=place, folder=folder)


def _read(group: Group) -> list[Run]:
    return [
        read_run(run.folder, name=run.run_id)
        for run in group.runs
        if (run.folder / "metrics.jsonl").is_file()
    ]


def _draw(
    curve: Curve, groups: Mapping[str, tuple[str, Sequence[Run]]], *, place: str, folder: Path
) -> Iterable[Figure]:
    """groups: label -> (method, its runs)."""
    split = _SHOWN[curve.name]
    lines = [(label, found) for label, (_, runs) in groups.items() for run in runs if (found := points(run, curve, split))]  # fmt: skip
    if not lines:
        return
    colours = dict(zip(groups, run_colours([method for method, _ in groups.values()]), strict=True))
    dashes = {label: _DASHES[index % len(_DASHES)] for index, label in enumerate(groups)}

    def draw(axes: Any) -> None:
        for label, found in lines:
            axes.plot(
                *zip(*found, strict=True), color=colours[label], linestyle=dashes[label], linewidth=1.2,
                marker="." if len(found) == 1 else None, alpha=0.85, clip_on=False, zorder=3,
            )  # fmt: skip
        for label in dict.fromkeys(label for label, _ in lines):
            axes.plot([], [], color=colours[label], linestyle=dashes[label], label=label)
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

    last = [f"{label}: {found[-1][1]:.4g} at step {found[-1][0]:,}" for label, found in lines]
    name = f"{place.replace(' · ', '-')}-{curve.name}"
    counts = f"n = {len(lines)} runs, each a line, with the most data"
    yield save_figure(name, f"{curve.title}, {place}", draw, "; ".join(last), counts, folder=folder)
