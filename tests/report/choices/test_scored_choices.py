"""Numbers of scored choices against ones worked out by hand, and the page's part about them."""

import json

import pytest
from matplotlib.axes import Axes

from stepdistill_jax.prediction.calibration import Calibration, write_calibration
from stepdistill_jax.report import write_report
from stepdistill_jax.report.choices import scores
from stepdistill_jax.report.choices.figures import draw_choices
from stepdistill_jax.report.choices.reading import Answer, ScoredChoices, read_choices

CHOICES = ("billing", "shipping", "other")


def write_choices(run, rows, *, split="test", step=400, temperature=2.0):
    """rows: (gold label, probabilities)."""
    head = {"choices": list(CHOICES), "temperature": temperature, "content": "0" * 8}
    lines = [head]
    for number, (label, probabilities) in enumerate(rows):
        predicted = CHOICES[max(range(3), key=lambda i: probabilities[i])]
        lines.append(
            {
                "example_id": f"tickets/{split}/{number}",
                "inputs": f"[label] <b>Ticket</b> {number}\u2028\x85",
                "label": label,
                "predicted": predicted,
                "probability": max(probabilities),
                "probabilities": list(probabilities),
            }
        )
    path = run / "predictions" / f"choices-{split}-{step}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


ROWS = [
    ("billing", (0.9, 0.05, 0.05)),
    ("billing", (0.6, 0.3, 0.1)),
    ("shipping", (0.8, 0.1, 0.1)),  # the most confident mistake
    ("shipping", (0.2, 0.7, 0.1)),
    ("other", (0.4, 0.5, 0.1)),
    ("refund", (0.6, 0.3, 0.1)),  # no choice
]


@pytest.fixture
def scored(tmp_path):
    write_choices(tmp_path, ROWS)
    return read_choices(tmp_path)


def test_precision_and_recall_are_of_each_class(scored):
    billing, shipping, other, refund = scores.class_scores(scored)
    assert (billing.num_gold, billing.num_predicted, billing.num_correct) == (2, 4, 2)
    assert (billing.precision, billing.recall) == (50.0, 100.0)
    assert billing.f1 == pytest.approx(200 / 3)
    assert (shipping.precision, shipping.recall) == (50.0, 50.0)
    assert (other.precision, other.recall, other.f1) == (None, 0.0, 0.0)
    assert (refund.label, refund.recall) == ("refund", 0.0)


def test_the_confusion_matrix_has_every_row_once(scored):
    matrix = scores.confusion(scored)
    assert matrix[0] == [2, 0, 0, 0]
    assert matrix[1] == [1, 1, 0, 0]
    assert sum(map(sum, matrix)) == len(ROWS)


def test_the_calibration_error_is_the_mean_distance_over_the_bins():
    confidences = [(0.95, True), (0.95, False), (0.1, False), (0.1, False)]
    bins = scores.reliability(confidences)
    assert [(each.num_correct, each.num_examples) for each in bins] == [(0, 2), (1, 2)]
    # half of the answers are 0.1 off, half 0.45
    assert scores.expected_calibration_error(confidences) == pytest.approx(0.5 * 0.1 + 0.5 * 0.45)
    assert scores.reliability([(1.0, True)])[0].accuracy == 1.0


def test_without_the_temperature_probabilities_are_those_of_the_scores(scored):
    # The softmax of 2 · log p, which is p² normalised.
    squares = [p * p for p in ROWS[0][1]]
    probability, correct = scores.uncalibrated(scored)[0]
    assert probability == pytest.approx(squares[0] / sum(squares))
    assert correct
    assert scores.calibrated(scored)[0] == (0.9, True)


def test_coverage_goes_from_the_surest_answer_to_all_and_equals_come_together(scored):
    points = scores.coverage(scored)
    assert [(each.threshold, each.num_answered, each.num_correct) for each in points] == [
        (0.9, 1, 1),
        (0.8, 2, 1),
        (0.7, 3, 2),
        (0.6, 5, 3),
        (0.5, 6, 3),
    ]
    assert points[-1].percent_answered == 100.0


def test_the_most_confident_mistakes_come_first(scored):
    first, second, third = scores.confident_mistakes(scored, 10)
    assert (first.label, first.predicted, first.probability) == ("shipping", "billing", 0.8)
    assert [second.label, third.label] == ["refund", "other"]
    assert scores.confident_mistakes(scored, 1) == [first]


def test_the_newest_test_file_is_read_and_validation_where_there_is_none(tmp_path):
    assert read_choices(tmp_path) is None
    write_choices(tmp_path, ROWS[:1], split="validation", step=900)
    assert read_choices(tmp_path).split == "validation"
    write_choices(tmp_path, ROWS[:2], step=100)
    write_choices(tmp_path, ROWS[:3], step=200)
    found = read_choices(tmp_path)
    assert (found.split, found.step, len(found.answers)) == ("test", 200, 3)


@pytest.mark.parametrize(
    "line", ["{", '{"example_id": "a"}', '{"example_id": "a", "inputs": "", "label": "", "predicted": "", "probabilities": [1]}']
)  # fmt: skip
def test_a_line_that_is_none_is_named(tmp_path, line):
    path = write_choices(tmp_path, ROWS)
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:2], line]) + "\n")
    with pytest.raises(ValueError, match=r"choices-test-400\.jsonl:3: .*evaluate the run again"):
        read_choices(tmp_path)


def test_the_page_shows_classes_figures_and_mistakes(run_folder):
    run = run_folder("run", dataset="tickets")
    write_choices(run, ROWS)
    calibration = Calibration(
        2.0, ece_before=0.2, ece_after=0.05, num_examples=80, accuracy=0.5, content="", step=400
    )
    write_calibration(run, calibration)
    page = write_report([run])
    text = page.read_text(encoding="utf-8")
    assert 'href="#choices-1"' in text
    assert "Temperature 2.00, found on 80 validation rows" in text
    assert "20.0 % without it and 5.0 % with it" in text
    assert (
        "--abstain_below 0.8: 33.3 % of the questions are answered, 50.0 % of these right (1 of 2; 9.5 to 90.5)."
        in text
    )
    assert "Gold labels that are no choice, and so never answered: refund." in text
    assert "3 of 3 wrong answers, the most probable first" in text
    assert "&lt;b&gt;Ticket&lt;/b&gt; 2" in text
    for name in ("confusion", "reliability", "coverage"):
        assert (page.parent / f"tickets-run-{name}.png").stat().st_size > 5_000
    csv = (page.parent / "tickets-run-classes.csv").read_text().splitlines()
    assert csv[0].startswith("label,num_gold,num_predicted,num_correct,precision_percent")
    assert csv[1].startswith("billing,2,4,2,50.0,100.0")


def test_the_reliability_figure_counts_the_rows_of_each_bin(scored, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        Axes, "annotate", lambda axes, text, place, **look: drawn.append((text, *map(round, place)))
    )
    figures = draw_choices(scored, "run", folder=tmp_path)
    [reliability] = [each for each in figures if each.name == "run-reliability"]
    counts = sum(int(text) for text, *_ in drawn[: len(scores.reliability(scores.calibrated(scored)))])
    assert counts == len(ROWS)
    assert ("2", 60, 50) in drawn  # of the two answers of 0.6 one is right
    assert "numbers: rows of a bin, with the temperature" in reliability.counts


def test_runs_whose_names_give_one_file_name_have_files_of_their_own(run_folder, tmp_path):
    runs = [
        run_folder(name, dataset="tickets", num_correct=None, seed=i)
        for i, name in enumerate(["日本", "中国"])
    ]
    write_choices(runs[0], ROWS)
    write_choices(runs[1], ROWS[:2])
    page = write_report(runs, tmp_path / "out")
    found = [
        (page.parent / f"tickets-{name}-classes.csv").read_text().splitlines()[1] for name in ("_", "_-2")
    ]
    assert [line.split(",")[1:4] for line in found] == [["2", "4", "2"], ["2", "2", "2"]]
    assert page.read_text(encoding="utf-8").count('href="tickets-_-2-classes.csv"') == 1


def test_a_class_that_its_tick_would_not_tell_is_numbered():
    from stepdistill_jax.report.choices.figures import _ticks

    same = "a complaint about the delivery"
    ticks = _ticks(["billing", "日本", f"{same} of today", f"{same} of old", "x" * 200, "costs $5"])
    assert ticks == ["billing", "class 2", "class 3", "class 4", f"{'x' * 14}\n…", "costs $5"]


def test_many_classes_and_strange_names_can_be_drawn(tmp_path):
    from stepdistill_jax.report.choices.figures import MOST_LABELS, draw_choices

    choices = tuple(f"costs $5 {number}" for number in range(MOST_LABELS + 1))
    answers = tuple(
        Answer(str(i), "x", label, label, tuple(1.0 * (j == i) for j in range(len(choices))))
        for i, label in enumerate(choices)
    )
    many = ScoredChoices("test", 1, choices, 1.0, answers)
    assert [figure.title for figure in draw_choices(many, "many", folder=tmp_path)] == [
        "What a probability is worth",
        "What abstaining buys",
    ]
    few = ScoredChoices("test", 1, choices[:2], 1.0, tuple(Answer(a.example_id, "x", a.label, a.label, a.probabilities[:2]) for a in answers[:2]))  # fmt: skip
    assert len(draw_choices(few, "few", folder=tmp_path)) == 3
