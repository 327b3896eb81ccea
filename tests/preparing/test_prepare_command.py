"""`stepdistill prepare` of a table, as a command and as a call."""

import pytest

from stepdistill_jax import cli, datasets, preparing
from stepdistill_jax.datasets import record_io

ROWS = "".join(
    f'"{kind} {n}, ""quoted""\nsecond line",{kind},{kind} is what it says\n'
    for n in range(10)
    for kind in ("lamp", "cup", "Öse")
)
TABLE = "text,kind,why\n" + ROWS


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "things.csv"
    path.write_bytes(TABLE.encode())
    return path


@pytest.fixture
def prepare(tmp_path, capsys):
    """Runs the command; gives its status, and what it wrote."""

    def run(*arguments):
        capsys.readouterr()
        status = cli.main(["prepare", *map(str, arguments), "--data_dir", str(tmp_path / "DATA")])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_table_is_prepared_and_told(prepare, table, tmp_path):
    status, said, _ = prepare(table, "--inputs", "{text}", "--label", "kind")
    assert status == 0
    assert f"things: 24 train / 3 validation / 3 test examples from {table}\n" in said
    assert "  labels: cup 8, lamp 8, Öse 8\n" in said
    assert """  first row: 'lamp 0, "quoted"\\nsecond line' -> 'lamp'\n""" in said
    assert "(csv, divided by ',')" in said
    assert "  licence: not stated\n  next: stepdistill teach things --teacher" in said
    assert said.rstrip().endswith(f"--base_url URL --data_dir {tmp_path / 'DATA'}")
    assert prepare(table, "--inputs", "text", "--label", "kind")[1].startswith(
        "things: 24 train / 3 validation"
    )
    assert "(nothing changed)" in prepare(table, "--inputs", "text", "--label", "kind")[1]


def test_rationales_of_the_table_become_those_of_a_teacher(prepare, table, tmp_path):
    status, said, _ = prepare(
        table,
        "--name",
        "goods",
        "--inputs",
        "text",
        "--label",
        "kind",
        "--rationale",
        "why",
        "--holdout",
        "0",
    )
    assert status == 0
    assert "30 outputs, 30 parsed" in said
    folder = tmp_path / "DATA" / "goods" / "rationales" / "worked"
    assert next(record_io.read_records(folder, "train"))["rationale"] == "lamp is what it says"


def test_flags_reach_the_settings(prepare, table, tmp_path):
    flags = ["--inputs", "text", "--label", "kind", "--holdout", "0", "--seed", "0", "--licence", "CC0"]
    status, said, _ = prepare(table, *flags, "--label_word", "Öse=eyelet", "--choices", "cup", "lamp", "Öse")
    assert status == 0
    assert "licence: CC0" in said
    found = datasets.get("things", tmp_path / "DATA")
    assert (found.splits, found.choices) == (("train",), ("cup", "lamp", "Öse"))
    assert found.label_words == {"Öse": "eyelet"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["{table}"],
            "say what is read and what is answered: --inputs '{{COLUMN}}\\n{{COLUMN}}' --label COLUMN; its columns are",
        ),
        (
            ["{table}", "--inputs", "text", "--label", "sort"],
            "no column 'sort'; it has 'text', 'kind', 'why'",
        ),
        (
            ["{table}", "--inputs", "text", "--label", "kind", "--label_word", "x"],
            "--label_word x: give LABEL=WORD",
        ),
        (
            ["{table}", "--inputs", "text", "--label", "kind", "--label_word", "a=b", "--label_word", "a=c"],
            "--label_word a=b a=c: give every label one word",
        ),
        (
            ["{table}", "--inputs", "text", "--label", "kind", "--from", "x"],
            "is a table, and needs no other folder",
        ),
        (["none.csv", "--inputs", "text", "--label", "kind"], "none.csv: no such file"),
        (["svamp", "--label", "kind"], "svamp: --label is a table's, and svamp is no file"),
        (["svamp", "--holdout", "0"], "svamp: --holdout is a table's"),
    ],
)
def test_a_mistake_is_one_line(prepare, table, arguments, said):
    status, _, error = prepare(*(argument.format(table=table) for argument in arguments))
    assert status == 2
    assert said.replace("{{", "{").replace("}}", "}") in error
    assert len(error.strip().splitlines()) == 1


def test_labels_are_shown_as_they_are(prepare, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,kind\na, x\nb,y\nc,"it\'s"\nd,z\u200b\n', encoding="utf-8")
    _, said, _ = prepare(path, "--inputs", "text", "--label", "kind")
    assert r"  labels: ' x' 1, it's 1, y 1, 'z\u200b' 1" in said


def test_a_setting_that_there_is_not_is_named(table, tmp_path):
    with pytest.raises(TypeError, match="no setting 'hold_out'; nearest 'holdout'"):
        preparing.prepare(table, inputs="text", label="kind", hold_out=0.2, data_dir=tmp_path)
