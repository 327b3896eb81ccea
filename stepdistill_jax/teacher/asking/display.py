"""How a running job shows itself on standard error: a live panel on a terminal, a line now and then elsewhere."""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.teacher.asking.meter import Meter

if TYPE_CHECKING:
    from rich.live import Live

_PANEL_SECONDS = 0.25
_LINE_SECONDS = 15.0


class Display:
    """Shows a meter until it is stopped.

    `at_once()` gives how many requests are under way, and how many may be; `notice()` why none is, '' if nothing is amiss.
    """

    def __init__(
        self,
        title: str,
        meter: Meter,
        at_once: Any,
        *,
        notice: Callable[[], str] = lambda: "",
        stream: Any = None,
    ):
        from rich.console import Console

        self._title, self._meter, self._at_once = title, meter, at_once
        self._console = Console(file=stream or sys.stderr)
        self._live: Live | None = None
        self._note = ""
        self._notice = notice

    def start(self) -> None:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    async def run(self) -> None:
        """Refreshes until it is cancelled."""
        loop = asyncio.get_running_loop()
        due, had_notice = loop.time() + _LINE_SECONDS, False
        while True:
            await asyncio.sleep(_PANEL_SECONDS)
            has_notice = bool(self._notice())
            if self._live or loop.time() >= due or has_notice != had_notice:
                self.refresh()
                due = loop.time() + _LINE_SECONDS
            had_notice = has_notice

    def refresh(self) -> None:
        if self._live is None:
            print(
                visible_line(f"{self._title}: {', '.join(self._parts())}"),
                file=self._console.file,
                flush=True,
            )
        else:
            self._live.update(self._panel(), refresh=True)

    def note(self, text: str) -> None:
        """A line that stays, such as what a signal does."""
        self._note = text
        if self._live is None:
            print(visible_line(text), file=self._console.file, flush=True)
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
        notice = self._notice()
        parts = [
            *([notice] if notice else []),
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
        if examples > 0 and not notice and meter.done < meter.total:
            parts.append(f"{duration((meter.total - meter.done) / examples)} left")
        return parts

    def _panel(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        meter = self._meter
        bar = ProgressBar(total=max(1, meter.total), completed=meter.done, width=60)
        lines = [Text(visible_line(self._title), style="bold"), bar]
        lines.append(Text(visible_line(" · ".join(self._parts()))))
        return Group(*lines, *([Text(visible_line(self._note), style="yellow")] if self._note else []))


def duration(seconds: float) -> str:
    """'45 s', '12 min', '3 h 5 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
