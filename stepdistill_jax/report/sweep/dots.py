"""Figures of dots: the methods beside each other, and the least data and size that beat the teacher."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.report.runs.tables import count_text
from stepdistill_jax.report.statistics.paired_tests import over_seeds
from stepdistill_jax.report.style.drawing import INK, MARKERS, Figure, method_colours, save_figure
from stepdistill_jax.report.sweep.comparisons import beats_teacher, teacher_percent
from stepdistill_jax.report.sweep.folder import Group, Sweep
from stepdistill_jax.report.sweep.published import Published, crosses_text

# Long and short dashes tell the methods apart where colours do not.
_DASHES = ("-", "--", "-.", (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (4, 3)), (0, (2, 2)))
LEGEND = {"fontsize": 8, "frameon": False, "handlelength": 3.6, "borderaxespad": 0.0}


def line_looks(lines: Sequence[Sequence[Group]]) -> list[Mapping[str, Any]]:
    """Colour by method; marker and dashes differ between all lines, so that they can be told apart in grey."""
    methods = [line[0].method for line in lines]
    colours = method_colours(methods)
    known = [*METHODS, *sorted(set(methods) - set(METHODS))]
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


def counts_text(groups: Sequence[Group]) -> str:
    """How many seeds and test rows a point stands for, and what its bars are."""
    seeds = sorted({len(group.runs) for group in groups})
    rows = sorted({run.test.num_examples for group in groups for run in group.runs})
    return f"n = {_range(seeds)} seed{'s' * (seeds[-1] > 1)} a point, {_range(rows)} test rows; " + (
        "bars: ± one standard error over seeds" if seeds[-1] > 1 else "one seed, so no bars"
    )


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def draw_methods(sweep: Sweep, dataset: str, published: Sequence[Published], *, folder: Path) -> Figure:
    """Every setting of a dataset as a dot with its error, where the sweep varies neither share nor size."""
    groups = sweep.of(dataset)
    crosses = [
        (each, -i)
        for i, group in enumerate(groups)
        for each in published
        if each.is_of(group) and (each.size, each.train_share) == (group.size, group.share)
    ]

    def draw(axes: Any) -> None:
        for i, (look, group) in enumerate(
            zip(line_looks([[group] for group in groups]), groups, strict=True)
        ):
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
        for each, y in crosses:
            axes.plot(each.percent, y, marker="x", linestyle="none", markersize=7, color=INK)
        axes.set_yticks([-i for i in range(len(groups))], [group.label for group in groups])
        axes.set_ylim(-len(groups) + 0.4, 0.7)
        axes.set_xlim(-4.0, 104.0)
        axes.set_xlabel("test answers right (%)")
        axes.set_title(f"Test accuracy · {dataset}", loc="left")

    described = "; ".join(f"{group.label}: {over_seeds(group.percents).mean:.1f}" for group in groups)
    described += "".join(f"; {each.label}: {each.percent:g}" for each, _ in crosses)
    height = max(2.2, 1.2 + 0.55 * len(groups))
    return save_figure(
        f"{dataset}-accuracy-methods", f"Test accuracy, {dataset}", draw, described,
        counts_text(groups) + crosses_text([each for each, _ in crosses]), folder=folder, height=height,
    )  # fmt: skip


def draw_least(sweep: Sweep, dataset: str, *, folder: Path) -> Iterable[Figure]:
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
    bars = " or ".join(f"{each:.1f}" for each in sorted({teacher_percent(sweep, group) for group in groups}))

    def draw(axes: Any) -> None:
        for i, (look, (label, members)) in enumerate(
            zip(line_looks(list(lines.values())), lines.items(), strict=True)
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
        axes.set_title(f"Filled: beats the teacher ({bars} %) · {dataset}", loc="left")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.17), ncols=2, **LEGEND)

    winners = [f"{g.label}, {g.size}, {100 * g.share:g} %" for g in groups if beats_teacher(sweep, g)]
    described = f"Above the teacher's {bars} %: {'; '.join(winners) or 'none'}"
    counts = (
        counts_text(groups).split(";")[0]
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
