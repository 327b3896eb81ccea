"""The line that says how far a run is: no rate before there is one, and then one of whole steps."""

import io
import time

from stepdistill_jax.engine.loop.progress import Progress, announce


def lines_of(progress, stream, step, **values):
    begin = stream.tell()
    progress.step(step, {"loss": 2.5}, **values)
    stream.seek(begin)
    return stream.read()


def test_no_rate_is_said_before_there_is_one():
    stream = io.StringIO()
    progress = Progress(first_step=0, total_steps=2, period=1, stream=stream)
    assert not progress.has_begun
    assert lines_of(progress, stream, 1, num_tokens=500) == "step 1/2 (50%)  loss 2.5, compiled\n"
    progress.resume()
    assert progress.has_begun
    assert progress.rates() == {}
    progress.pause()
    assert progress.has_begun
    assert lines_of(progress, stream, 2, num_tokens=500) == "step 2/2 (100%)  loss 2.5, compiled\n"
    assert progress.rates() == {}


def test_a_rate_is_of_the_steps_that_the_clock_ran_for():
    stream = io.StringIO()
    progress = Progress(first_step=0, total_steps=4, period=1, stream=stream)
    progress.step(1, {}, num_tokens=10**9)  # the compiler's
    progress.resume()
    time.sleep(0.05)
    line = lines_of(progress, stream, 2, num_tokens=100)
    assert "tokens/s" in line
    assert line.endswith(" left\n")
    progress.pause()
    rates = progress.rates()
    assert rates["seconds"] >= 0.05
    assert rates["tokens_per_second"] == 100 / rates["seconds"]
    assert rates["steps_per_second"] == 1 / rates["seconds"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminals_bar_says_that_it_compiles_and_then_what_it_learns():
    stream = Terminal()
    progress = Progress(first_step=0, total_steps=10, period=5, stream=stream)
    assert stream.getvalue().endswith("0/10 00:00<?, compiling the step")
    for step in range(1, 11):
        progress.step(step, {"loss": 2.5}, num_tokens=10)
    progress.close()
    last = stream.getvalue().splitlines()[-1].split("\r")[-1]
    assert "10/10" in last
    assert "compiling" not in last
    assert last.rstrip().endswith(", loss 2.5")


def test_what_takes_a_while_is_said_on_a_terminal_alone(monkeypatch, capsys):
    announce("reading the data …")
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    announce("reading the data …")
    assert terminal.getvalue() == "reading the data …\n"
