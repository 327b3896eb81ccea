"""What bench/accelerator.py prints: a table of results, tables of kernels, and a line for losses that should be the same and are not."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from accelerator_step import Settings
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepdistill_jax.base.visible import visible_line

# How far apart losses may be that should be the same, in nats: of one target token, of which a mean over n has a part in sqrt(n), and as
# a part of the loss, for parameters that drift apart. With bfloat16 the first losses of a T5 of two layers on a CPU differ by up to 0.025
# / sqrt(n) between 'plain', 'xla' and 'pallas'; where examples of a row see each other, by 0.49 / sqrt(n) and more.
TOKEN_TOLERANCE = 0.1
RELATIVE_TOLERANCE = 1e-4

_COLUMNS: Mapping[str, tuple[str, str]] = {
    "step_ms": ("step, ms", "{:,.1f}"),
    "piped_ms": ("in a row, ms", "{:,.1f}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "fill": ("full", "{:.0%}"),
    "mfu": ("MFU", "{:.1%}"),
    "peak_gib": ("peak GiB", "{:.2f}"),
    "compile_seconds": ("compile, s", "{:.1f}"),
    "first_step_seconds": ("to first step, s", "{:.1f}"),
    "labels_per_second": ("labels/s", "{:,.0f}"),
}
_WIDEST = 400  # columns of a terminal: a row of Markdown is one line, however long


def results_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, a row a contender; what was not measured is left out.

    Args:
      results: contender's name -> what it measured, its 'losses', and its 'error'.
    """
    table = Table(box=box.MARKDOWN)
    for heading in ("contender", *(heading for heading, _ in _COLUMNS.values()), "first losses"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, result in results.items():
        cells = [_cell(result.get(key), form) for key, (_, form) in _COLUMNS.items()]
        losses = " ".join(f"{float(loss):.4f}" for loss in result.get("losses", ()))
        failed = "failed" if "error" in result else ""
        cells = [name, *cells, f"{losses} {failed}".strip()]
        table.add_row(*(Text(_in_a_cell(cell)) for cell in cells))
    return _rendered(table)


def remarks(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each contender that has something to say, or has failed."""
    lines = []
    for name, result in results.items():
        failed = [f"FAILED: {result['error']}"] if "error" in result else []
        if said := [*failed, *result.get("notes", ())]:
            lines.append(visible_line(f"{name}: {'; '.join(said)}"))
    return lines


def kernels_table(kernels: Sequence[Mapping[str, Any]], total_ms: float) -> str:
    """Markdown: the kernels that took longest, and all together."""
    table = Table(box=box.MARKDOWN)
    for heading in ("ms a step", "calls", "kernel"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    for kernel in kernels:
        row = f"{kernel['ms']:.3f}", f"{kernel['calls']:g}", _in_a_cell(kernel["name"])
        table.add_row(*map(Text, row))
    table.add_row(f"{total_ms:.3f}", "", "all")
    return _rendered(table)


def loss_differences(contenders: Sequence[Settings], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each of ours whose first losses are not finite, or not those of another that draws the same parameters and dropout.

    The first of them is what the others are compared with.
    """
    lines = []
    first: dict[tuple[Any, ...], Settings] = {}
    for settings in contenders:
        losses = [float(loss) for loss in results[settings.name].get("losses", ())]
        if any(not math.isfinite(loss) for loss in losses):
            lines.append(f"LOSSES: {settings.name}: {_listed(losses)} are not finite.")
        if settings.who != "ours" or not losses:
            continue
        reference = first.setdefault(_same_draws(settings), settings)
        expected = [float(loss) for loss in results[reference.name]["losses"]]
        tokens = results[settings.name]["target_tokens"]
        for step, (loss, right) in enumerate(zip(losses, expected, strict=True), start=1):
            allowed = TOKEN_TOLERANCE / math.sqrt(tokens) + RELATIVE_TOLERANCE * abs(right)
            if abs(loss - right) > allowed:
                lines.append(
                    f"LOSSES: {settings.name}: {loss:.6f} at step {step}, where {reference.name} has {right:.6f}; they may differ by "
                    f"{allowed:.6f}."
                )
                break
    return lines


def _same_draws(settings: Settings) -> tuple[Any, ...]:
    """What decides on a loss: sizes, data, parameters, and dropout, of which each microbatch has its own."""
    parts = settings.num_microbatches if settings.dropout_rate else None
    of_data = (settings.rows, settings.inputs, settings.targets, settings.examples)
    return settings.size, settings.dtype, settings.dropout_rate, parts, *of_data


def _listed(losses: Sequence[float]) -> str:
    return ", ".join(f"{loss:.4f}" for loss in losses)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _in_a_cell(text: str) -> str:
    return visible_line(text).replace("|", "\\|")


def _rendered(table: Table) -> str:
    console = Console(width=_WIDEST, color_system=None)
    with console.capture() as captured:
        console.print(table, no_wrap=True, overflow="ignore")
    return "\n".join(line.strip() for line in captured.get().strip().splitlines())
