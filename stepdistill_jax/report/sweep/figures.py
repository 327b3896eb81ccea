"""The paper's figures of a sweep: accuracy against share of data, parameters and λ, and the least that beats the teacher."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepdistill_jax.report.runs.tables import count_text
from stepdistill_jax.report.statistics.paired_tests import over_seeds
from stepdistill_jax.report.style.drawing import INK, Figure, method_colours, save_figure
from stepdistill_jax.report.sweep.dots import LEGEND, counts_text, draw_least, draw_methods, line_looks
from stepdistill_jax.report.sweep.folder import BASELINES, Group, Sweep, setting_text
from stepdistill_jax.report.sweep.published import Published, crosses_text


@dataclass(frozen=True)
class Axis:
    """What stands along the x axis: how a group is placed there, and what the axis says."""

    name: str
    title: str
    label: str
    place: Callable[[Group], float | None]
    logarithmic: bool = False


AXES = (
    Axis(
        "share",
        "Accuracy against share of data",
        "share of the training data (%)",
        lambda group: None if group.share is None else 100.0 * group.share,
    ),
    Axis(
        "size",
        "Accuracy against parameters",
        "parameters of the student",
        lambda group: group.median("parameters"),
        logarithmic=True,
    ),
    Axis(
        "rationale_weight",
        "Accuracy against λ",
        "λ, the weight of the rationale loss",
        lambda group: group.first.settings.get("rationale_weight"),
    ),
)


def draw_sweep_figures(sweep: Sweep, published: Sequence[Published], *, folder: Path) -> list[Figure]:
    """Every figure that the sweep has at least two places of an axis for; else the methods beside each other."""
    figures = []
    for dataset in sweep.datasets:
        drawn = [
            figure for axis in AXES for figure in _draw_axis(sweep, dataset, axis, published, folder=folder)
        ]
        figures += drawn or [draw_methods(sweep, dataset, published, folder=folder)]
        if sweep.teachers(dataset) and len({(g.size, g.share) for g in sweep.students(dataset)}) > 1:
            figures += draw_least(sweep, dataset, folder=folder)
    return figures


def _draw_axis(
    sweep: Sweep, dataset: str, axis: Axis, published: Sequence[Published], *, folder: Path
) -> Iterable[Figure]:
    """One figure for each setting of the other axes: accuracy against share once for every student size."""
    panels: dict[Any, list[Group]] = {}
    for group in sweep.students(dataset):
        if axis.place(group) is not None:
            panels.setdefault(_panel(group, axis), []).append(group)
    for (size, share), groups in panels.items():
        if len({axis.place(group) for group in groups}) < 2:
            continue
        fixed = [text for text in (size if axis.name != "size" else "", _share_text(share, axis)) if text]
        place = " · ".join([dataset, *fixed])
        name = "-".join([dataset, "accuracy", axis.name, *_file_name_parts(size, share, axis)])
        beside = [
            each
            for each in published
            if each.fits(axis.name, size, share) and any(each.is_of(group) for group in groups)
        ]
        yield _draw_lines(sweep, groups, axis, beside, place=place, name=name, folder=folder)


def _panel(group: Group, axis: Axis) -> tuple[str, float | None]:
    return "" if axis.name == "size" else group.size, None if axis.name == "share" else group.share


def _share_text(share: float | None, axis: Axis) -> str:
    return "" if share in (None, 1.0) or axis.name == "share" else setting_text("train_share", share)


def _file_name_parts(size: str, share: float | None, axis: Axis) -> list[str]:
    parts = [size] if size and axis.name != "size" else []
    return parts + ([f"s{share:g}"] if _share_text(share, axis) else [])


def _lines(groups: Sequence[Group], axis: Axis) -> dict[str, list[Group]]:
    """Label -> groups along the axis. Along λ, a label is the method's alone; students of the same place are told apart."""
    lines: dict[str, list[Group]] = {}
    for group in sorted(groups, key=lambda each: (axis.place(each), each.label, each.size)):
        label = group.label_without_weight if axis.name == "rationale_weight" else group.label
        if any(axis.place(each) == axis.place(group) for each in lines.get(label, ())):
            label = f"{label}, {group.size}"
        lines.setdefault(label, []).append(group)
    return dict(sorted(lines.items(), key=lambda item: item[0]))


def _draw_lines(
    sweep: Sweep,
    groups: Sequence[Group],
    axis: Axis,
    published: Sequence[Published],
    *,
    place: str,
    name: str,
    folder: Path,
) -> Figure:
    lines = _lines(groups, axis)
    references = _references(sweep, groups, axis)

    def draw(axes: Any) -> None:
        for look, (label, members) in zip(line_looks(list(lines.values())), lines.items(), strict=True):
            summaries = [over_seeds(group.percents) for group in members]
            axes.errorbar(
                [axis.place(group) for group in members], [each.mean for each in summaries],
                yerr=[each.standard_error or 0.0 for each in summaries], label=label, linewidth=1.6, capsize=3, markersize=6, **look,
            )  # fmt: skip
        colours = method_colours([group.method for group in groups])
        for each in published:
            axes.plot(
                each.place(axis.name), each.percent, marker="x", linestyle="none", color=colours[each.method], label=each.label
            )  # fmt: skip
        for label, (percent, style) in references.items():
            axes.axhline(percent, color=INK, linestyle=style, linewidth=1.1, label=label)
        if axis.logarithmic:
            _logarithmic(axes, [axis.place(group) for group in groups])
        if axis.name == "share":
            axes.set_xlim(0.0, 104.0)
        axes.set_xlabel(axis.label)
        axes.set_ylabel("test answers right (%)")
        axes.set_title(f"{axis.title} · {place}", loc="left")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.17), ncols=2, **LEGEND)

    described = [
        f"{label}: {', '.join(_point(group, axis) for group in each)}" for label, each in lines.items()
    ]
    described += [f"{label} at {percent:.1f}" for label, (percent, _) in references.items()]
    described += [f"{each.label}: {each.percent:g} at {each.place(axis.name):g}" for each in published]
    counts = counts_text(groups) + crosses_text(published)
    return save_figure(name, f"{axis.title}, {place}", draw, "; ".join(described), counts, folder=folder)


def _references(sweep: Sweep, groups: Sequence[Group], axis: Axis) -> dict[str, tuple[float, Any]]:
    """The paper's lines: each teacher's accuracy, and along the share of data the baseline's with all of it."""
    teachers = sweep.teachers(groups[0].dataset)
    lines = {group.label: (over_seeds(group.percents).mean, ":") for group in teachers}
    if axis.name == "share":
        full = _baseline([group for group in groups if group.share == 1.0])
        lines |= {
            f"{group.label}, all data": (over_seeds(group.percents).mean, (0, (8, 4))) for group in full
        }
    if axis.name == "rationale_weight":
        cell = groups[0].size, groups[0].share
        same = [each for each in sweep.students(groups[0].dataset) if (each.size, each.share) == cell]
        lines |= {each.label: (over_seeds(each.percents).mean, (0, (8, 4))) for each in _baseline(same)}
    return lines


def _baseline(groups: Sequence[Group]) -> list[Group]:
    """The group of the first baseline method that is there, in its usual settings; [] if there is none."""
    found = [group for group in groups if group.method in BASELINES]
    return sorted(found, key=lambda group: (BASELINES.index(group.method), len(group.label)))[:1]


def _point(group: Group, axis: Axis) -> str:
    summary = over_seeds(group.percents)
    error = "" if summary.standard_error is None else f" ± {summary.standard_error:.1f}"
    return f"{summary.mean:.1f}{error} at {axis.place(group):g}"


def _logarithmic(axes: Any, places: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    ticks = sorted(set(places))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: count_text(round(value)))
    axes.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
