"""A table in, a table out: columns and order kept, interrupted and gone on with."""

import datetime
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from stepdistill_jax.base import folder_lock
from stepdistill_jax.prediction import answered_tables
from stepdistill_jax.tables import Inputs, TableError, open_table

ROWS = [
    ("id", "question", "note"),
    ("1", "apples apples apples", 'quoted, "twice"'),
    ("007", "", "blank"),
    ("3", "no no no", "line\nbreak"),
    ("3", "pears", ""),
]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text(
        "".join(",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) + "\n" for row in ROWS)
    )
    return open_table(path)


@pytest.fixture
def answer(made_up, table, tmp_path):
    """answer(output name, table=…, **settings) -> (Answered, rows of the output)."""

    def run(name="answers.csv", table=table, inputs="question", **settings):
        output = tmp_path / name
        answered = answered_tables.answer_table(made_up(), table, output, inputs=Inputs(inputs), **settings)
        return answered, [row.values for row in open_table(output)]

    return run


def test_columns_and_order_are_kept_and_answers_stand_behind_them(answer):
    answered, rows = answer(rationale=True)
    assert [tuple(row)[:3] for row in rows] == [ROWS[0]] * 4
    assert [tuple(row.values())[:3] for row in rows] == ROWS[1:]
    assert answered.columns == ("label", "probability", "rationale")
    assert [row["label"] for row in rows] == ["apples", "", "no", "apples"]
    assert [row["rationale"] for row in rows] == ["apples apples apples", "", "no no no", "pears"]
    assert rows[1]["probability"] == ""
    assert float(rows[3]["probability"]) == pytest.approx(1 / 3, abs=1e-5)
    assert (answered.num_rows, answered.num_blank, answered.num_abstained) == (4, 1, 0)


def test_labels_that_are_too_unlikely_are_left_out_and_counted(answer):
    answered, rows = answer(abstain_below=0.8)
    assert [row["label"] for row in rows] == ["apples", "", "no", ""]
    assert answered.num_abstained == 1


def test_a_column_of_that_name_stays_and_the_new_one_is_renamed(answer, tmp_path, capsys):
    path = tmp_path / "old.csv"
    path.write_text("label,question\nold,no\n")
    _, rows = answer(table=open_table(path))
    assert rows == [
        {"label": "old", "question": "no", "predicted_label": "no", "probability": rows[0]["probability"]}
    ]
    assert "the table has a column 'label': the student's is 'predicted_label'" in capsys.readouterr().err


def test_json_objects_keep_their_own_keys_and_types(answer, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text('{"question": "no", "n": 1}\n{"question": "apples", "more": [true, null]}\n')
    _, rows = answer("answers.jsonl", table=open_table(path))
    assert list(rows[0]) == ["question", "n", "label", "probability"]
    assert rows[1]["more"] == [True, None]
    _, rows = answer("answers.tsv", table=open_table(path))
    assert [row["more"] for row in rows] == ["", "[true, null]"]


def test_values_of_other_columns_come_out_as_they_were(answer, tmp_path):
    path = tmp_path / "new.parquet"
    values = {
        "question": ["no", "apples"],
        "at": [datetime.datetime(2024, 1, 2)] * 2,
        "n": [1.5, float("nan")],
    }
    pyarrow.parquet.write_table(pyarrow.table(values), path)
    _, rows = answer(table=open_table(path))
    assert [(row["at"], row["n"], row["label"]) for row in rows] == [
        ("2024-01-02T00:00:00", "1.5", "no"),
        ("2024-01-02T00:00:00", "NaN", "apples"),
    ]
    numbers = tmp_path / "numbers.jsonl"
    numbers.write_text('{"question": "no", "price": 1.10, "key": 12345678901234567890.5}\n')
    answer("answers.jsonl", table=open_table(numbers))
    written = (tmp_path / "answers.jsonl").read_text()
    assert written.startswith('{"question": "no", "price": 1.10, "key": 12345678901234567890.5, "label"')


def test_what_the_output_cannot_hold_is_named_before_anything_is_answered(answer, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text('{"question": "no"}\n{"question": "no", "other": "\\ud83d"}\n')
    with pytest.raises(TableError, match=r"new\.jsonl:2: 'other' is not whole: .*csv and tsv can't hold"):
        answer(table=open_table(path))
    assert not list(tmp_path.glob("answers*"))
    assert answer("answers.jsonl", table=open_table(path))[0].num_rows == 2


def test_a_table_without_rows_and_a_wrong_setting_leave_nothing(answer, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("question,id\n")
    with pytest.raises(TableError, match=r"new\.csv: no rows, so there is nothing to answer"):
        answer(table=open_table(path))
    with pytest.raises(ValueError, match=r"abstain_below=80; use a probability"):
        answer(abstain_below=80)
    assert not list(tmp_path.glob("answers*"))


def test_what_fails_before_a_row_is_answered_leaves_nothing(answer, tmp_path, monkeypatch):
    monkeypatch.setattr(answered_tables, "_cells", lambda prediction: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        answer()
    assert not list(tmp_path.glob("answers*"))


def test_the_input_s_delimiter_is_kept(answer, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("id;question\n1;no, no\n2;apples\n")
    answer(table=open_table(path))
    assert (tmp_path / "answers.csv").read_text().startswith("id;question;label;probability\n1;no, no;no;")


def test_a_malformed_row_is_named_before_anything_is_answered(answer, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text('{"question": "no"}\n' * 5 + '{"question": null}\n')
    with pytest.raises(TableError, match=r"new\.jsonl:6: 'question' is null"):
        answer(table=open_table(path))
    assert not list(tmp_path.glob("answers*"))


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"name": "answers.xlsx"}, TableError, "--output .*xlsx: written are .csv"),
        ({"inputs": "question,body"}, TableError, "--inputs: .*new.csv has no column 'body'; it has 'id'"),
        ({"name": "new.csv"}, FileExistsError, "exists; name another file"),
    ],
    ids=["kind", "column", "exists"],
)
def test_what_cannot_be_written_or_read_is_named(answer, settings, error, said):
    with pytest.raises(error, match=said):
        answer(**settings)


def test_two_calls_do_not_write_one_file(answer, tmp_path):
    with (
        folder_lock.lock_beside(tmp_path / "answers.csv", "another").held(),
        pytest.raises(folder_lock.FolderInUse, match=r"answers\.csv \(stepdistill predict\) is in use"),
    ):
        answer()


@pytest.fixture
def many(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text(
        "id,question\n" + "".join(f"{n},{'apples no'[: 6 + 3 * (n % 2)]} ü\n" for n in range(1200))
    )
    return open_table(path)


def interrupted(answer, many, monkeypatch, after):
    """Runs until `after` portions are kept, and then fails."""
    keep, kept = answered_tables._keep, []

    def fail(*arguments):
        if len(kept) == after:
            arguments[0].write("half a row")  # reaches the file when it is closed
            raise OSError("interrupted")
        kept.append(keep(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(answered_tables, "_keep", fail)
        with pytest.raises(OSError, match="interrupted"):
            answer(table=many)


def test_interrupted_it_goes_on_and_writes_the_same_bytes(answer, many, monkeypatch, tmp_path, capsys):
    answer("whole.csv", table=many)
    interrupted(answer, many, monkeypatch, after=2)
    assert not (tmp_path / "answers.csv").exists()
    answered, _ = answer(table=many)
    assert "has 768 of 1,200 rows: going on behind them" in capsys.readouterr().err
    assert (tmp_path / "answers.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert answered.num_rows == 1200
    assert not list(tmp_path.glob("answers.csv.*"))


def test_it_does_not_go_on_with_other_settings_or_another_input(answer, many, monkeypatch, tmp_path):
    interrupted(answer, many, monkeypatch, after=1)
    with pytest.raises(
        ValueError, match=r"answers\.csv\.partial was begun with another abstain_below; take it"
    ):
        answer(table=many, abstain_below=0.5)
    with many.path.open("a") as file:
        file.write("1200,more\n")
    with pytest.raises(ValueError, match="was begun with another input"):
        answer(table=many)


def test_rows_that_are_lost_are_missed(answer, many, monkeypatch, tmp_path):
    interrupted(answer, many, monkeypatch, after=1)
    partial = tmp_path / "answers.csv.partial"
    partial.write_bytes(partial.read_bytes()[:100])
    with pytest.raises(ValueError, match="has lost rows since"):
        answer(table=many)
    (tmp_path / "answers.csv.partial.json").write_text("{")
    with pytest.raises(ValueError, match=r"answers\.csv\.partial\.json is damaged"):
        answer(table=many)


KILLED = """
    import sys, time
    from pathlib import Path
    from made_up_students import MadeUpNetwork, description_of
    from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
    from stepdistill_jax.prediction import answered_tables, predictor
    from stepdistill_jax.prediction.portable import Student, choice_tokens
    from stepdistill_jax.prediction.vocabularies import SentencePieceModel
    from stepdistill_jax.tables import Inputs, open_table

    folder, many, output = map(Path, sys.argv[1:])
    words, described = SentencePieceModel(VOCABULARY_PATH, 0), description_of()
    network = MadeUpNetwork(choice_tokens(described, words), words, 12)
    predictor.load = lambda path, **options: Student(folder, 7, described, words, network)
    slow = predictor.Predictor(folder)
    class Slow:
        student, max_input_tokens, num_tokens = slow.student, slow.max_input_tokens, slow.num_tokens
        def __call__(self, texts, **settings):
            time.sleep(0.4)
            return slow(texts, **settings)
    answered_tables.answer_table(Slow(), open_table(many), output, inputs=Inputs("question"))
"""


@pytest.mark.parametrize("sums", ["checkpoint_7/checksums.txt", "export.json"])
def test_it_does_not_go_on_with_another_training_to_the_same_step(answer, many, monkeypatch, tmp_path, sums):
    path = tmp_path / sums
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"format": "huggingface", "step": 7}')
    interrupted(answer, many, monkeypatch, after=1)
    path.write_text('{"format": "huggingface", "step": 7, "stepdistill": "0"}')
    with pytest.raises(ValueError, match="was begun with another student"):
        answer(table=many)


def test_killed_it_goes_on_and_writes_the_same_bytes(answer, many, tmp_path):
    answer("whole.csv", table=many)  # writes student.json, too
    script, output = tmp_path / "killed.py", tmp_path / "answers.csv"
    script.write_text(textwrap.dedent(KILLED))
    tests = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(many.path), str(output)],
        env={**os.environ, "PYTHONPATH": f"{tests.parents[1]}:{tests}:{tests.parent}"},
    )
    journal = tmp_path / "answers.csv.partial.json"
    deadline = time.monotonic() + 120
    while not journal.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert 0 < json.loads(journal.read_text())["num_rows"] < 1200
    answer(table=many)
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
