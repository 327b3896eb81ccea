from stepdistill_jax.engine.loop import run_folder


def test_run_json_says_what_was_run(tmp_path):
    assert run_folder.read_run_json(tmp_path) == {}
    run_folder.write_run_json(tmp_path, {"seed": 7, "first_step": 0})
    facts = run_folder.read_run_json(tmp_path)
    assert facts["seed"] == 7
    assert facts["devices"] == "8 x cpu"
    assert {"jax", "flax", "numpy"} <= set(facts["versions"])
    assert {"command", "commit", "python", "started"} <= set(facts)


CONFIG = """\
import tasks

# Macros:
# ==============================================================================
BASE_LEARNING_RATE = 0.01
MODEL_DIR = 'runs/one'
TASK_FEATURE_LENGTHS = \\
    {'inputs': 1024,
     'targets': 256}
WARMUP_STEPS = 7
"""


def test_a_run_that_goes_on_with_other_settings_says_which(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stepdistill_jax.base.messages._said", set())
    assert run_folder.read_config(tmp_path) == {}
    file = tmp_path / "config.gin"
    file.write_text(CONFIG)
    before = run_folder.read_config(tmp_path)
    assert before["TASK_FEATURE_LENGTHS"] == {"inputs": 1024, "targets": 256}
    file.write_text(CONFIG.replace("runs/one", "moved"))
    run_folder.say_other_settings(tmp_path, before)
    run_folder.say_other_settings(tmp_path, {})  # of a run without a config.gin nothing is known
    assert capsys.readouterr().err == ""
    file.write_text(CONFIG.replace("0.01", "0.1").replace("WARMUP_STEPS = 7", "PACK = False"))
    run_folder.say_other_settings(tmp_path, before)
    said = capsys.readouterr().err
    assert (
        "goes on with other settings: BASE_LEARNING_RATE = 0.1 (was 0.01), PACK = False (was its default), "
        in said
    )
    assert said.endswith("WARMUP_STEPS = its default (was 7).\n")


def test_of_many_other_settings_the_rest_is_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stepdistill_jax.base.messages._said", set())
    (tmp_path / "config.gin").write_text("".join(f"N{number} = 1\n" for number in range(10)))
    run_folder.say_other_settings(tmp_path, {f"N{number}": 0 for number in range(10)})
    assert capsys.readouterr().err.endswith("N7 = 1 (was 0), and 2 more, which config.gin has.\n")
