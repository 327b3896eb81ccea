"""The numbers of the table and of the sentences under it."""

import csv
import io
import json
import math
import statistics

import pytest

from stepdistill_jax.report.runs.folder import Accuracy, read_runs
from stepdistill_jax.report.runs.tables import (
    COLUMNS,
    comma_separated,
    comparisons,
    duration,
    make_rows,
    markdown,
)
from stepdistill_jax.report.statistics.noise import (
    accuracy_standard_error,
    paired_difference,
    unpaired_difference,
)

PALM = {
    "teacher": "palm-540b",
    "dataset": "svamp",
    "scores": {"test": {"num_correct": 148, "num_examples": 200}},
}


def test_of_many_rows_the_standard_error_is_that_of_a_mean_of_zeros_and_ones():
    for right, total in ((14_800, 20_000), (10_000, 30_000)):
        answers = [1.0] * right + [0.0] * (total - right)
        expected = 100 * statistics.pstdev(answers) / math.sqrt(total)
        assert accuracy_standard_error(right, total) == pytest.approx(expected, rel=1e-3)


def test_everything_right_is_not_certain():
    assert Accuracy("test", 30, 30).text == "100.0 (88.6 to 100.0)"
    assert Accuracy("test", 0, 30).text == "0.0 (0.0 to 11.4)"
    assert accuracy_standard_error(30, 30) == pytest.approx(accuracy_standard_error(0, 30))
    assert accuracy_standard_error(30, 30) == pytest.approx((100 - 88.64866) / 2 / 1.959964, rel=1e-4)


def test_paired_difference_equals_mean_and_error_of_the_row_differences():
    a = {str(i): i % 3 == 0 for i in range(60)}
    b = {str(i): i % 5 == 0 for i in range(60)}
    rows = [int(a[i]) - int(b[i]) for i in a]
    difference = paired_difference(a, b)
    assert difference.points == pytest.approx(100 * statistics.fmean(rows))
    assert difference.standard_error == pytest.approx(100 * statistics.pstdev(rows) / math.sqrt(60))
    assert difference.num_examples == 60


def test_unpaired_errors_add_in_squares():
    difference = unpaired_difference((120, 200), (50, 100))
    expected = math.hypot(accuracy_standard_error(120, 200), accuracy_standard_error(50, 100))
    assert (difference.points, difference.standard_error) == (pytest.approx(10.0), pytest.approx(expected))
    assert difference.below_noise


def test_rows_are_sorted_by_dataset_then_test_accuracy(run_folder):
    runs = read_runs(
        [run_folder("low", num_correct=90), run_folder("none", num_correct=None), run_folder("high")]
    )
    other = read_runs([run_folder("other", dataset="cqa", num_correct=10)])
    assert [row.name for row in make_rows(runs + other, [PALM])] == [
        "other",
        "palm-540b",
        "high",
        "low",
        "none",
    ]


def test_a_difference_that_chance_makes_often_is_said_to_be_noise(run_folder):
    runs = read_runs(
        [run_folder("a", num_correct=120), run_folder("b", method="fine_tuning", num_correct=112, seed=1)]
    )
    (sentence,) = comparisons(make_rows(runs))
    assert "step-by-step (a) is 4.0 points above fine-tuning (b) on 200 test rows, with a paired" in sentence
    assert "below the noise" in sentence


def test_a_difference_that_chance_hardly_makes_is_said_to_be_beyond(run_folder):
    runs = read_runs(
        [run_folder("a", num_correct=160), run_folder("b", method="fine_tuning", num_correct=100, seed=1)]
    )
    (sentence,) = comparisons(make_rows(runs))
    assert "30.0 points above" in sentence
    assert "beyond the noise" in sentence


def test_a_teacher_is_compared_unpaired_and_only_on_as_many_rows(run_folder):
    rows = make_rows(read_runs([run_folder("a")]), [PALM])
    assert "an unpaired standard error" in comparisons(rows)[0]
    smaller = PALM | {"scores": {"test": {"num_correct": 70, "num_examples": 100}}}
    assert "so they are not compared" in comparisons(make_rows(read_runs([run_folder("a")]), [smaller]))[0]


def test_runs_with_other_test_rows_or_datasets_are_not_compared(run_folder):
    a, b = run_folder("a"), run_folder("b")
    path = next((b / "predictions").glob("*.jsonl"))
    path.write_text(path.read_text().replace("svamp/test/", "svamp/test/other"))
    assert "tested on different rows" in comparisons(make_rows(read_runs([a, b])))[0]
    assert comparisons(make_rows(read_runs([a, run_folder("c", dataset="cqa")]))) == []


def test_where_every_row_points_the_same_way_the_exact_test_decides_and_no_formula(run_folder):
    runs = read_runs([run_folder("a", num_correct=200), run_folder("b", num_correct=0)])
    assert "standard error of 0.0: McNemar's p < 0.0001, beyond the noise" in comparisons(make_rows(runs))[0]
    assert not unpaired_difference((200, 200), (0, 200)).below_noise
    assert unpaired_difference((3, 3), (2, 3)).below_noise
    same = read_runs([run_folder("c", num_correct=200), run_folder("d", num_correct=200)])
    assert "equally accurate" in comparisons(make_rows(same))[0]


def test_predictions_that_disagree_with_the_metrics_are_noted_and_not_paired(run_folder):
    folder = run_folder("a")
    path = next((folder / "predictions").glob("*.jsonl"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:150]))
    (row,) = make_rows(read_runs([folder]))
    assert row.test.num_examples == 200
    assert "of 150 right" in row.notes[0]
    assert row.test_correct == {}


def test_test_accuracy_is_counted_from_predictions_where_no_metrics_have_it(run_folder):
    folder = run_folder("a")
    (folder / "test_eval" / "metrics.jsonl").unlink()
    (row,) = make_rows(read_runs([folder]))
    assert (row.test.num_correct, row.test.num_examples) == (120, 200)
    assert "counted from the predictions" in row.notes[0]


def test_a_teacher_may_be_a_folder_and_may_lack_scores(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"teacher": "worked", "dataset": "wordproblems"}))
    (row,) = make_rows([], [tmp_path])
    assert (row.name, row.test) == ("worked", None)
    assert "stepdistill teach with --score" in row.notes[0]
    with pytest.raises(FileNotFoundError, match="no such teacher manifest; give"):
        make_rows([], [tmp_path / "absent"])


def test_csv_reads_back_and_markdown_has_a_cell_for_each_column(run_folder):
    rows = make_rows(read_runs([run_folder("a"), run_folder("b|c", num_correct=None)]), [PALM])
    records = list(csv.DictReader(io.StringIO(comma_separated(rows))))
    assert [record["run"] for record in records] == ["palm-540b", "a", "b|c"]
    assert float(records[1]["test_percent"]) == 60.0
    low, high = (float(records[1][f"test_{end}_percent"]) for end in ("low", "high"))
    assert (low, high) == (pytest.approx(53.0837, abs=1e-4), pytest.approx(66.5394, abs=1e-4))
    assert records[2]["test_percent"] == ""
    lines = markdown(rows).splitlines()
    assert all(line.replace("\\|", "").count("|") == len(COLUMNS) + 1 for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (4.25, "4.2 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7620, "2 h 07 min")],
)
def test_durations_are_said_in_words(seconds, text):
    assert duration(seconds) == text
