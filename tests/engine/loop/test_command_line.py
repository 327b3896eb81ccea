"""The command that run.json keeps: this process's, or the whole one that it stands for."""

from stepdistill_jax.engine.loop import command_line, run_folder


def test_a_command_stands_for_another_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/bin/stepdistill", "train", "tickets"])
    assert command_line.words() == ["stepdistill", "train", "tickets"]
    with command_line.standing_for(["stepdistill", "train", "tickets", "--steps", "480"]):
        run_folder.write_run_json(tmp_path, {"seed": 0})
    assert run_folder.read_run_json(tmp_path)["command"][-2:] == ["--steps", "480"]
    assert command_line.words() == ["stepdistill", "train", "tickets"]
