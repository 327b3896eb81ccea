"""The paper's figures of a sweep: accuracy against share of data, parameters and λ, and the least that beats the teacher."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepdistill_jax.report.drawing import INK, MARKERS, PALETTE, Figure, method_colours, save_figure
from stepdistill_jax.report.published import Published
from stepdistill_jax.report.statistics import over_seeds
from stepdistill_jax.report.sweep_folder import Group, Sweep, setting_text
from stepdistill_jax.report.sweep_tests import beats_teacher
from stepdistill_jax.report.tables import count_text, method_name

# Long and short dashes tell the methods apart where colours do not.
_DASHES = ("-", "--", "-.", (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (4, 3)), (0, (2, 2)))
_GROUPED = {"fontsize": 8, "frameon": False, "handlelength": 3.6, "borderaxespad": 0.0}


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
        figures += drawn or [_draw_methods(sweep, dataset, folder=folder)]
        if sweep.teachers(dataset) and len({(g.size, g.share) for g in sweep.students(dataset)}) > 1:
            figures += _draw_least(sweep, dataset, folder=folder)
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
        beside = [each for each in published if each.dataset == dataset and each.fits(axis.name, size, share)]
        yield _draw_lines(sweep, groups, axis, beside, place=place, name=name, folder=folder)


def _panel(group: Group, axis: Axis) -> tuple[str, float | None]:
    return "" if axis.name == "size" else group.size, None if axis.name == "share" else group.share


def _share_text(share: float | None, axis: Axis) -> str:
    return "" if share in (None, 1.0) or axis.name == "share" else setting_text("train_share", share)


def _file_name_parts(size: str, share: float | None, axis: Axis) -> list[str]:
    parts = [size] if size and axis.name != "size" else []
    return parts + ([f"s{share:g}"] if _share_text(share, axis) else [])


def _lines(groups: Sequence[Group], axis: Axis) -> dict[str, list[Group]]:
    """Label -> groups along the axis. Along λ, a label is the method's alone."""
    lines: dict[str, list[Group]] = {}
    for group in sorted(groups, key=lambda each: (axis.place(each), each.label)):
        label = method_name(group.method) if axis.name == "rationale_weight" else group.label
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
        for look, (label, members) in zip(_looks(list(lines.values())), lines.items(), strict=True):
            summaries = [over_seeds(group.percents) for group in members]
            axes.errorbar(
                [axis.place(group) for group in members], [each.mean for each in summaries],
                yerr=[each.standard_error or 0.0 for each in summaries], label=label, linewidth=1.6, capsize=3, markersize=6, **look,
            )  # fmt: skip
        for each in published:
            axes.plot(
                each.place(axis.name), each.percent, marker="x", linestyle="none", color=INK, label=each.label
            )
        for label, (percent, style) in references.items():
            axes.axhline(percent, color=INK, linestyle=style, linewidth=1.1, label=label)
        if axis.logarithmic:
            _logarithmic(axes, [axis.place(group) for group in groups])
        if axis.name == "share":
            axes.set_xlim(0.0, 104.0)
        axes.set_xlabel(axis.label)
        axes.set_ylabel("test answers right (%)")
        axes.set_title(f"{axis.title} · {place}", loc="left")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.17), ncols=2, **_GROUPED)

    described = [
        f"{label}: {', '.join(_point(group, axis) for group in each)}" for label, each in lines.items()
    ]
    described += [f"{label} at {percent:.1f}" for label, (percent, _) in references.items()]
    return save_figure(
        name, f"{axis.title}, {place}", draw, "; ".join(described), _counts(groups), folder=folder
    )


def _references(sweep: Sweep, groups: Sequence[Group], axis: Axis) -> dict[str, tuple[float, Any]]:
    """The paper's lines: each teacher's accuracy, and along the share of data the baseline's with all of it."""
    teachers = sweep.teachers(groups[0].dataset)
    lines = {group.label: (over_seeds(group.percents).mean, ":") for group in teachers}
    if axis.name == "share":
        full = [group for group in groups if group.method == "fine_tuning" and group.share == 1.0]
        lines |= {
            f"{group.label}, all data": (over_seeds(group.percents).mean, (0, (8, 4))) for group in full
        }
    if axis.name == "rationale_weight":
        same = [each for each in sweep.students(groups[0].dataset) if each.method == "fine_tuning"]
        same = [each for each in same if (each.size, each.share) == (groups[0].size, groups[0].share)]
        lines |= {each.label: (over_seeds(each.percents).mean, (0, (8, 4))) for each in same}
    return lines


def _point(group: Group, axis: Axis) -> str:
    summary = over_seeds(group.percents)
    error = "" if summary.standard_error is None else f" ± {summary.standard_error:.1f}"
    return f"{summary.mean:.1f}{error} at {axis.place(group):g}"


def _looks(lines: Sequence[Sequence[Group]]) -> list[Mapping[str, Any]]:
    """Colour by method; marker and dashes differ between all lines, so that they can be told apart in grey."""
    methods = [line[0].method for line in lines]
    colours = method_colours(methods)
    known = [*PALETTE, *sorted(set(methods) - set(PALETTE))]
    looks, used = [], set()
    for method in methods:
        index = known.index(method)
        while index in used:
            index = (index + 1) % len(MARKERS) if len(used) < len(MARKERS) else index + len(MARKERS)
        used.add(index)
        looks.append(
            {
                "color": colours[method],
                "marker": MARKERS[index % len(MARKERS)],
                "linestyle": _DASHES[index % len(_DASHES)],
            }
        )
    return looks


def _logarithmic(axes: Any, places: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    ticks = sorted(set(places))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: count_text(round(value)))
    axes.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)


def _counts(groups: Sequence[Group]) -> str:
    seeds = sorted({len(group.runs) for group in groups})
    rows = sorted({run.test.num_examples for group in groups for run in group.runs})
    return f"n = {_range(seeds)} seed{'s' * (seeds[-1] > 1)} a point, {_range(rows)} test rows; " + (
        "bars: ± one standard error over seeds" if seeds[-1] > 1 else "one seed, so no bars"
    )


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def _draw_methods(sweep: Sweep, dataset: str, *, folder: Path) -> Figure:
    groups = sweep.of(dataset)

    def draw(axes: Any) -> None:
        for i, (look, group) in enumerate(zip(_looks([[group] for group in groups]), groups, strict=True)):
            summary = over_seeds(group.percents)
            axes.errorbar(
                summary.mean,
                -i,
                xerr=summary.standard_error,
                capsize=4,
                markersize=7,
                **look | {"linestyle": "none"},
            )
            axes.annotate(
                f"{summary.mean:.1f}", (summary.mean, -i), xytext=(0, 9), color=INK, textcoords="offset points", ha="center",
                fontsize=8,
            )  # fmt: skip
        axes.set_yticks([-i for i in range(len(groups))], [group.label for group in groups])
        axes.set_ylim(-len(groups) + 0.4, 0.7)
        axes.set_xlim(-4.0, 104.0)
        axes.set_xlabel("test answers right (%)")
        axes.set_title(f"Test accuracy · {dataset}", loc="left")

    described = "; ".join(f"{group.label}: {over_seeds(group.percents).mean:.1f}" for group in groups)
    height = max(2.2, 1.2 + 0.55 * len(groups))
    return save_figure(
        f"{dataset}-accuracy-methods", f"Test accuracy, {dataset}", draw, described, _counts(groups),
        folder=folder, height=height,
    )  # fmt: skip


def _draw_least(sweep: Sweep, dataset: str, *, folder: Path) -> Iterable[Figure]:
    """Every (share, size) tried, filled where the mean beats the teacher; a method's least is ringed."""
    groups = [
        group
        for group in sweep.students(dataset)
        if group.share is not None and group.median("parameters") is not None
    ]
    if not groups:
        return
    lines: dict[str, list[Group]] = {}
    for group in groups:
        lines.setdefault(group.label, []).append(group)
    teacher = max(max(each.percents) for each in sweep.teachers(dataset))

    def draw(axes: Any) -> None:
        for i, (look, (label, members)) in enumerate(
            zip(_looks(list(lines.values())), lines.items(), strict=True)
        ):
            spread = 3.0 * (i - (len(lines) - 1) / 2)  # methods side by side, not over each other
            for filled in (True, False):
                shown = [group for group in members if beats_teacher(sweep, group) == filled]
                axes.plot(
                    [100.0 * group.share + spread for group in shown], [group.median("parameters") for group in shown],
                    color=look["color"], marker=look["marker"], linestyle="none", markersize=8,
                    markerfacecolor=look["color"] if filled else "none",
                )  # fmt: skip
            axes.plot([], [], color=look["color"], marker=look["marker"], linestyle="none", label=label)
            winners = [group for group in members if beats_teacher(sweep, group)]
            if winners:
                least = min(winners, key=lambda each: (each.median("parameters"), each.share))
                axes.plot(
                    100.0 * least.share + spread, least.median("parameters"), marker="o", markersize=17, linestyle="none",
                    markerfacecolor="none", color=look["color"],
                )  # fmt: skip
        axes.set_yscale("log")
        sizes = sorted({group.median("parameters") for group in groups})
        axes.set_yticks(sizes, [count_text(round(size)) for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(sizes[0] / 1.8, sizes[-1] * 1.8)
        axes.set_xlim(0.0, 100.0 + 3.0 * (len(lines) / 2 + 1))
        axes.set_xlabel("share of the training data (%)")
        axes.set_ylabel("parameters of the student")
        axes.set_title(f"Filled: beats the teacher ({teacher:.1f} %) · {dataset}", loc="left")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.17), ncols=2, **_GROUPED)

    winners = [f"{g.label}, {g.size}, {100 * g.share:g} %" for g in groups if beats_teacher(sweep, g)]
    described = f"Above the teacher's {teacher:.1f} %: {'; '.join(winners) or 'none'}"
    counts = (
        _counts(groups).split(";")[0]
        + "; filled where the mean is above the teacher, ringed where a method needs least"
    )
    yield save_figure(
        f"{dataset}-least",
        f"The least that beats the teacher, {dataset}",
        draw,
        described,
        counts,
        folder=folder,
    )
