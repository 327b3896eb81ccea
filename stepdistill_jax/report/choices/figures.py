"""Figures of scored choices: what is taken for what, probability against accuracy, and coverage against accuracy."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.prediction.calibration import NUM_BINS
from stepdistill_jax.report.choices import scores
from stepdistill_jax.report.choices.reading import ScoredChoices
from stepdistill_jax.report.style.drawing import INK, Figure, is_drawable, save_figure

MOST_LABELS = 24  # of a matrix that can be read
_CALIBRATED, _RAW = "#0072B2", "#D55E00"  # Okabe and Ito
_LABEL_WIDTH = 14  # characters of a line
_LABEL_LINES = 2


def draw_choices(scored: ScoredChoices, name: str, *, folder: Path) -> list[Figure]:
    """The figures of one run's answers, saved in `folder` as NAME-….png and .svg."""
    figures = []
    if len(scores.labels_of(scored)) <= MOST_LABELS:
        figures.append(_draw_confusion(scored, name, folder=folder))
    figures.append(_draw_reliability(scored, name, folder=folder))
    figures.append(_draw_coverage(scored, name, folder=folder))
    return figures


def _counts(scored: ScoredChoices) -> str:
    return f"n = {len(scored.answers):,} {scored.split} rows at step {scored.step:,}"


def _draw_confusion(scored: ScoredChoices, name: str, *, folder: Path) -> Figure:
    labels, matrix = scores.labels_of(scored), scores.confusion(scored)
    names = _ticks(labels)

    def draw(axes: Any) -> None:
        shares = [[count / max(sum(row), 1) for count in row] for row in matrix]
        axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
        axes.grid(visible=False)
        for gold, row in enumerate(matrix):
            for predicted, count in enumerate(row):
                if count:
                    axes.text(
                        predicted, gold, f"{count:,}", ha="center", va="center", fontsize=8,
                        color="white" if shares[gold][predicted] > 0.5 else "black",
                    )  # fmt: skip
        axes.set_xticks(range(len(labels)), names, rotation=90 if len(labels) > 6 else 0)
        axes.set_yticks(range(len(labels)), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("gold label")
        axes.set_title("What is taken for what", loc="left")

    wrong = [
        (count, labels[gold], labels[predicted])
        for gold, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and gold != predicted
    ]
    described = "; ".join(f"{gold} taken for {other}: {count}" for count, gold, other in sorted(wrong, reverse=True)[:8])  # fmt: skip
    numbered = any(name == _numbered(place) for place, name in enumerate(names))
    counts = f"{_counts(scored)}; a cell's colour is its share of the gold label's row"
    counts += "; class n is row n of the table" if numbered else ""
    height = max(4.0, 1.6 + 0.34 * len(labels))
    return save_figure(
        f"{name}-confusion", "What is taken for what", draw, described or "nothing is taken for another",
        counts, folder=folder, height=height,
    )  # fmt: skip


def _draw_reliability(scored: ScoredChoices, name: str, *, folder: Path) -> Figure:
    lines = [
        (f"with temperature {scored.temperature:.2f}", scores.calibrated(scored), _CALIBRATED, "o", "-"),
        ("without", scores.uncalibrated(scored), _RAW, "s", "--"),
    ]
    labelled = [
        (
            f"{label}: ECE {100 * scores.expected_calibration_error(answers):.1f} %",
            scores.reliability(answers),
            *look,
        )
        for label, answers, *look in lines
    ]

    def draw(axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=1.0, label="as good as it says")
        for label, bins, colour, marker, style in labelled:
            axes.plot(
                [100 * each.mean_probability for each in bins], [100 * each.accuracy for each in bins],
                color=colour, marker=marker, linestyle=style, linewidth=1.6, markersize=5, label=label, clip_on=False,
            )  # fmt: skip
        for each in labelled[0][1]:
            axes.annotate(
                f"{each.num_examples:,}", (100 * each.mean_probability, 100 * each.accuracy), xytext=(-4, 6), color=_CALIBRATED,
                textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xlabel("probability of the answer (%)")
        axes.set_ylabel("answers right (%)")
        axes.set_title("What a probability is worth", loc="left")
        _legend(axes)

    return save_figure(
        f"{name}-reliability", "What a probability is worth", draw, "; ".join(label for label, *_ in labelled),
        f"{_counts(scored)}, in {NUM_BINS} bins of equal width; numbers: rows of a bin, with the temperature", folder=folder,
    )  # fmt: skip


def _draw_coverage(scored: ScoredChoices, name: str, *, folder: Path) -> Figure:
    points = scores.coverage(scored)
    marked = thresholds(points)

    def draw(axes: Any) -> None:
        axes.plot(
            [point.percent_answered for point in points], [point.percent_right for point in points],
            color=_CALIBRATED, linewidth=1.6, marker="." if len(points) == 1 else None, clip_on=False,
        )  # fmt: skip
        for threshold, point in marked:
            axes.plot(
                point.percent_answered, point.percent_right, color=_CALIBRATED, marker="o", clip_on=False
            )
            axes.annotate(
                f"{threshold:g}", (point.percent_answered, point.percent_right), xytext=(-4, -13), color=INK,
                textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
        axes.set_xlim(0, 100)
        axes.set_ylim(min(80.0, min(point.percent_right for point in points) - 3.0), 102.0)
        axes.set_xlabel("questions answered (%); marked: --abstain_below")
        axes.set_ylabel("answers right (%)")
        axes.set_title("What abstaining buys", loc="left")

    described = "; ".join(
        f"--abstain_below {threshold:g}: {point.percent_answered:.1f} % answered, {point.percent_right:.1f} % of them right"
        for threshold, point in marked
    )
    return save_figure(
        f"{name}-coverage", "What abstaining buys", draw, described, _counts(scored), folder=folder
    )


def thresholds(points: Sequence[scores.Coverage]) -> list[tuple[float, scores.Coverage]]:
    """What --abstain_below 0, 0.5, 0.8, 0.9, 0.95 and 0.99 leave, where they leave anything, each place once."""
    found: dict[int, tuple[float, scores.Coverage]] = {}
    for threshold in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99):
        left = [point for point in points if point.threshold >= threshold]
        if left:
            found.setdefault(left[-1].num_answered, (threshold, left[-1]))
    return list(found.values())


def _ticks(labels: Sequence[str]) -> list[str]:
    """Two short lines for each label; its number where the font cannot draw it, or where what is left of it is another's."""
    short = [textwrap.fill(label, _LABEL_WIDTH, max_lines=_LABEL_LINES, placeholder="…") for label in labels]
    return [
        text if text and short.count(text) == 1 and is_drawable(text) else _numbered(place)
        for place, text in enumerate(short)
    ]


def _numbered(place: int) -> str:
    return f"class {place + 1}"


def _legend(axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.17), fontsize=8, frameon=False, borderaxespad=0.0)
