"""From a number in a report back to its data."""

import json

from stepdistill_jax.report import write_report
from stepdistill_jax.report.runs.folder import read_run
from stepdistill_jax.report.runs.lineage import lineage_of_run, origin_text

CONTENT = {
    "svamp/examples/test": {
        "sha256": "a" * 64,
        "order": "0",
        "count": 200,
        "from": {"source": "shared", "source_sha256": {"test: svamp/test.json": "c" * 64}},
    },
    "svamp/rationales/tutor/train": {
        "sha256": "b" * 64,
        "order": "0",
        "count": 720,
        "from": {
            "teacher": "tutor",
            "model": "qwen3-8b",
            "server": "http://127.0.0.1/v1",
            "prompt_hash": "d" * 64,
        },
    },
}


def test_a_test_accuracy_is_traced_to_answers_data_model_and_prompt(run_folder, tmp_path):
    folder = run_folder("ours", num_correct=120)
    settings = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**settings, "content": CONTENT}))
    lineage = lineage_of_run(read_run(folder, name="ours"))
    assert lineage == [
        ("120 of 200 (test)", "checkpoint_400; answers in predictions/svamp_label-test-400.jsonl"),
        ("svamp/examples/test", f"{'a' * 12}, 200 records, from shared, test.json {'c' * 12}"),
        (
            "svamp/rationales/tutor/train",
            f"{'b' * 12}, 720 records, from qwen3-8b at http://127.0.0.1/v1, prompt {'d' * 12}",
        ),
    ]
    page = write_report([folder], tmp_path / "report").read_text()
    details = page[page.index("Where its numbers come from") :]
    for words in lineage[2]:
        assert words in details


def test_a_run_of_an_earlier_version_has_no_lineage(run_folder):
    assert lineage_of_run(read_run(run_folder("ours"), name="ours")) == []


def test_what_was_made_is_not_from_anywhere():
    assert origin_text({"source": "made by stepdistill_jax"}) == "made by stepdistill_jax"
    assert origin_text({}) == "from what nobody has noted"
