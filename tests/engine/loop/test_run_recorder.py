"""What a run's start writes and says."""

import pytest

from stepdistill_jax.engine.loop.run_recorder import RunRecorder


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """begin(config, resumes_at) -> starts a run, or goes on with it, under that config.gin."""
    monkeypatch.setattr("stepdistill_jax.base.messages._said", set())

    def run(config, resumes_at=None):
        recorder = RunRecorder(tmp_path, None, eval_period=1, stats_period=None)
        recorder.resumes_at = resumes_at
        recorder.begin(
            step=resumes_at or 0,
            facts={"seed": 7},
            noted={},
            mixed_data=[],
            summarize_config_fn=lambda folder, *_: (tmp_path / "config.gin").write_text(config),
        )

    return run


def test_going_on_with_another_setting_is_said_and_beginning_again_is_not(begin, capsys):
    begin("BASE_LEARNING_RATE = 0.01\n")
    begin(
        "BASE_LEARNING_RATE = 0.1\n"
    )  # stopped before its first checkpoint, so nothing has learnt by the other
    begin("BASE_LEARNING_RATE = 0.1\n", resumes_at=3)
    assert capsys.readouterr().err == ""
    begin("BASE_LEARNING_RATE = 0.5\n", resumes_at=3)
    assert "goes on with other settings: BASE_LEARNING_RATE = 0.5 (was 0.1).\n" in capsys.readouterr().err
