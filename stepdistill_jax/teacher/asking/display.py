"""How a running job shows itself on standard error: a live panel on a terminal, a line now and then elsewhere."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from stepdistill_jax.teacher.asking.meter import Meter

if TYPE_CHECKING:
    from rich.live import Live

_PANEL_SECONDS = 0.25
_LINE_SECONDS = 15.0


class Display:
    """Shows a meter until it is stopped; `at_once()` gives how many requests are under way, and how many may be."""

    def __init__(self, title: str, meter: Meter, at_once: Any, *, stream: Any = None):
        from rich.console import Console

        self._title, self._meter, self._at_once = title, meter, at_once
        self._console = Console(file=stream or sys.stderr)
        self._live: Live | None = None
        self._note = ""

    def start(self) -> None:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    async def run(self) -> None:
        """Refreshes until it is cancelled."""
        while True:
            await asyncio.sleep(_PANEL_SECONDS if self._live else _LINE_SECONDS)
            self.refresh()

    def refresh(self) -> None:
        if self._live is None:
            print(f"{self._title}: {', '.join(self._parts())}", file=self._console.file, flush=True)
        else:
            self._live.update(self._panel(), refresh=True)

    def note(self, text: str) -> None:
        """A line that stays, such as what a signal does."""
        self._note = text
        if self._live is None:
            print(text, file=self._console.file, flush=True)
        else:
            self.refresh()

    def stop(self) -> None:
        self.refresh()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _parts(self) -> list[str]:
        meter = self._meter
        answers, tokens, examples = meter.rates()
        under_way, most = self._at_once()
        parts = [
            f"{meter.done:,}/{meter.total:,} ({100 * meter.done / max(1, meter.total):.1f} %)",
            f"{answers:,.1f} answers/s",
            f"{tokens:,.0f} tokens/s",
            f"{under_way} of {most} at once",
        ]
        if meter.reused:
            parts.append(f"{meter.reused:,} reused")
        parts += [f"{number:,} retried: {kind}" for kind, number in meter.retried.most_common(4)]
        parts += [f"{number:,} failed: {kind}" for kind, number in meter.failed.most_common(4)]
        if meter.cost is not None:
            projected = meter.projected_cost
            parts.append(f"${meter.cost:,.2f}" + (f" of about ${projected:,.2f}" if projected else ""))
        if examples > 0 and meter.done < meter.total:
            parts.append(f"{duration((meter.total - meter.done) / examples)} left")
        return parts

    def _panel(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        meter = self._meter
        bar = ProgressBar(total=max(1, meter.total), completed=meter.done, width=60)
        lines = [Text(self._title, style="bold"), bar, Text(" · ".join(self._parts()))]
        return Group(*lines, *([Text(self._note, style="yellow")] if self._note else []))


def duration(seconds: float) -> str:
    """'45 s', '12 min', '3 h 5 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
