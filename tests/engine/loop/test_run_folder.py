from stepdistill_jax.engine.loop import run_folder


def test_run_json_says_what_was_run(tmp_path):
    assert run_folder.read_run_json(tmp_path) == {}
    run_folder.write_run_json(tmp_path, {"seed": 7, "first_step": 0})
    facts = run_folder.read_run_json(tmp_path)
    assert facts["seed"] == 7
    assert facts["devices"] == "8 x cpu"
    assert {"jax", "flax", "numpy"} <= set(facts["versions"])
    assert {"command", "commit", "python", "started"} <= set(facts)
