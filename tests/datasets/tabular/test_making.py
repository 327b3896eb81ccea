"""A table becomes examples and a description, and is found by its name."""

import json

import pytest
import seqio
from shop_tickets import TICKETS, as_csv

from stepdistill_jax import datasets
from stepdistill_jax.datasets import described, registration, seqio_tasks
from stepdistill_jax.datasets.tabular.making import prepare_table
from stepdistill_jax.tables import TableError


@pytest.fixture
def tickets(write):
    return write("tickets.csv", as_csv(TICKETS * 2))


@pytest.fixture
def prepare(settings, tmp_path):
    def prepare_file(file, **changes):
        return prepare_table(settings(file, **changes), data_dir=tmp_path / "DATA")

    return prepare_file


@pytest.fixture
def read(tmp_path):
    return lambda split: datasets.read_examples("tickets", split, tmp_path / "DATA")


def test_examples_say_what_the_rows_say(prepare, read, write):
    prepare(write("a.csv", as_csv(TICKETS)))
    [first] = [row for split in datasets.SPLITS for row in read(split) if row.source_row == 4]
    assert first.inputs == "Größe falsch\nBitte umtauschen"
    assert (first.label, first.choices) == ("return", ("billing", "return", "delivery", "repair"))
    assert first.example_id == f"tickets/{first.split}/4"


def test_all_splits_are_cut_where_none_is_given(prepare, tickets):
    manifest = prepare(tickets, holdout=0.2)
    assert manifest["counts"] == {"train": 12, "validation": 4, "test": 4}
    assert any(note.startswith("validation and test cut from the 20 rows") for note in manifest["notes"])
    assert any(note.startswith("10 rows repeat the text of another") for note in manifest["notes"])
    assert not any("shares" in note for note in manifest["notes"])


def test_a_split_that_cannot_be_cut_is_said(prepare, write):
    manifest = prepare(write("a.csv", as_csv(TICKETS[1:4:2])))
    assert manifest["counts"] == {"train": 2}
    assert any(
        note.startswith("no validation split: 2 rows are too few to cut one from")
        for note in manifest["notes"]
    )


def test_splits_of_files_are_taken_and_a_missing_one_is_cut(prepare, read, write, tickets):
    dev = write("dev.csv", as_csv([("New lamp", "It hums", "repair")]))
    manifest = prepare(tickets, validation=dev)
    assert manifest["counts"] == {"train": 18, "validation": 1, "test": 2}
    assert [row.example_id for row in read("validation")] == ["tickets/validation/0"]
    assert prepare(tickets, validation=dev, holdout=0)["counts"] == {"train": 20, "validation": 1}


def test_how_to_cut_where_nothing_is_cut_is_refused(prepare, write, tickets):
    dev = write("dev.csv", as_csv([("New lamp", "It hums", "repair")]))
    both = {"validation": dev, "test": write("test.csv", as_csv([("A desk", "It rocks", "repair")]))}
    assert prepare(tickets, **both)["counts"] == {"train": 20, "validation": 1, "test": 1}
    with pytest.raises(
        TableError, match=r"^--seed 5: validation and test are given, so nothing is cut; leave it out\.$"
    ):
        prepare(tickets, **both, seed=5)
    with pytest.raises(TableError, match=r"^--holdout 0\.3: validation and test are given"):
        prepare(tickets, **both, holdout=0.3)
    with pytest.raises(TableError, match=r"^--seed 5: --holdout 0 cuts nothing; leave it out\.$"):
        prepare(tickets, holdout=0, seed=5)


def test_the_same_file_as_test_is_said(prepare, tickets):
    notes = prepare(tickets, test=tickets, holdout=0)["notes"]
    assert any(note.startswith("test shares 10 questions with train") for note in notes)
    assert any(note.startswith("no validation split") for note in notes)


def test_splits_of_a_column_are_taken(prepare, read, write):
    parts = ["train"] * 8 + ["dev", "test"]
    rows = [(*row, part) for row, part in zip([*TICKETS[2:], *TICKETS[:2]], parts, strict=True)]
    path = write(
        "a.csv", as_csv([*rows, ("Lamp", "Dark", "repair", "train")], ("subject", "body", "queue", "part"))
    )
    manifest = prepare(path, split="part")
    assert manifest["counts"] == {"train": 9, "validation": 1, "test": 1}
    assert read("validation")[0].inputs == "Lamp flickers\nIt goes on and off"
    path = write(
        "b.csv",
        as_csv([("a", "b", "x", "dev"), ("c", "d", "y", "test")], ("subject", "body", "queue", "part")),
    )
    with pytest.raises(TableError, match="has no row of 'train'"):
        prepare(path, split="part")


def test_ids_name_examples_as_they_are_written(prepare, read, write):
    rows = [(f"{n:05}", *row) for n, row in enumerate(TICKETS)]
    prepare(write("a.csv", as_csv(rows, ("id", "subject", "body", "queue"))), id="id", holdout=0)
    assert read("train")[3].example_id == "tickets/train/00003"


def test_rationales_are_explanations_and_an_empty_column_is_an_error(prepare, read, write):
    header = ("subject", "body", "queue", "why")
    prepare(
        write("a.csv", as_csv([(*row, f" For {row[2]}. ") for row in TICKETS], header)),
        rationale="why",
        holdout=0,
    )
    assert read("train")[0].explanation == "For repair."
    with pytest.raises(TableError, match=r"--rationale why: .* has no text in that column"):
        prepare(write("b.csv", as_csv([(*row, "") for row in TICKETS], header)), rationale="why")


def test_texts_with_two_labels_are_said_with_their_lines_and_stay_together(prepare, read, write):
    rows = [*TICKETS, (TICKETS[7][0], TICKETS[7][1], "return")]
    manifest = prepare(write("a.csv", as_csv(rows)), holdout=0.2)
    [note] = [note for note in manifest["notes"] if "more than one label" in note]
    assert (
        note
        == "1 texts have more than one label: 'Charged twice\\nSee my card' (line 9 'billing', line 12 'return')"
    )
    places = [
        split for split in datasets.SPLITS for row in read(split) if row.inputs.startswith("Charged twice")
    ]
    assert len(set(places)) == 1


def test_labels_are_merged_where_that_is_asked_for(prepare, read, write):
    rows = [(s, b, q.upper() if n % 2 else q) for n, (s, b, q) in enumerate(TICKETS * 2)]
    manifest = prepare(write("a.csv", as_csv(rows)), merge_labels=True, holdout=0)
    assert len(manifest["labels"]) == 4
    assert "'repair' is 'REPAIR' (--merge_labels)" in manifest["notes"]
    assert len({row.label for row in read("train")}) == 4


def test_malformed_rows_write_nothing(prepare, write, tmp_path):
    with pytest.raises(TableError, match=r"a.csv:12: .*without a label"):
        prepare(write("a.csv", as_csv([*TICKETS, ("a", "b", "")])))
    assert not (tmp_path / "DATA" / "tickets" / "examples").exists()
    assert not described.path_of("tickets", tmp_path / "DATA").exists()


def test_how_a_file_was_read_is_said(prepare, write):
    path = write("a.csv", as_csv(TICKETS).replace('","', '";"'), "cp1252")
    manifest = prepare(path, encoding="cp1252", holdout=0)
    assert f"{path}: 10 rows (csv, divided by ';', cp1252)" in manifest["notes"]


def test_the_description_says_where_all_comes_from(prepare, tickets, tmp_path):
    manifest = prepare(tickets, seed=3, licence="CC0")
    said = json.loads(described.path_of("tickets", tmp_path / "DATA").read_text(encoding="utf-8"))
    assert said["inputs"] == "{subject}\n{body}"
    assert said["columns"] == {"label": "queue", "id": None, "rationale": None, "split": None}
    assert said["choices"] == ["billing", "return", "delivery", "repair"]
    assert (
        said["splits"]["train"]["rows"]
        == manifest["counts"]["train"]
        == sum(said["splits"]["train"]["labels"].values())
    )
    assert said["splits"]["train"]["content"] == manifest["identity"]["train"]
    [source] = said["sources"]
    assert (source["file"], source["rows"], source["delimiter"]) == (str(tickets), 20, ",")
    assert len(source["sha256"]) == 64
    assert said["command"] == (
        f"stepdistill prepare {tickets} --name tickets --inputs '{{subject}}\\n{{body}}' --label queue --seed 3 --licence CC0"
    )


def test_the_same_table_again_changes_nothing(prepare, tickets, tmp_path):
    prepare(tickets)
    folder = tmp_path / "DATA" / "tickets"
    before = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and ".lock" not in path.name
    }
    assert prepare(tickets)["unchanged"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_description_that_a_kill_has_cost_is_written_by_the_same_command(prepare, tickets, tmp_path):
    prepare(tickets)
    path = described.path_of("tickets", tmp_path / "DATA")
    before = path.read_text(encoding="utf-8")
    path.unlink()
    prepare(tickets)
    assert path.read_text(encoding="utf-8") == before


def test_a_dataset_is_found_by_its_name(prepare, tickets, tmp_path, monkeypatch):
    prepare(tickets)
    found = datasets.get("tickets", tmp_path / "DATA")
    assert (found.name, found.splits, found.metric) == ("tickets", datasets.SPLITS, "text")
    assert found.choices == ("billing", "return", "delivery", "repair")
    assert found.inputs == "{subject}\n{body}"
    assert "tickets" in datasets.names(tmp_path / "DATA")
    with pytest.raises(ValueError, match="No dataset 'ticket'; nearest 'tickets'"):
        datasets.get("ticket", tmp_path / "DATA")
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(tmp_path / "DATA"))
    assert datasets.get("tickets") == found


def test_preparing_by_the_name_says_the_command(prepare, tickets, tmp_path):
    prepare(tickets)
    with pytest.raises(
        ValueError,
        match=r"tickets is made of a table; to prepare it again: stepdistill prepare .*tickets.csv",
    ):
        datasets.prepare("tickets", data_dir=tmp_path / "DATA")


def test_a_registered_name_and_a_folder_of_other_data_are_not_taken(prepare, tickets, tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.registry._DATASETS, "tickets", datasets.Dataset("tickets", dict, rows=list))
    with pytest.raises(ValueError, match="--name tickets: a dataset of a Python file has that name"):
        prepare(tickets)
    (tmp_path / "DATA" / "orders" / "examples").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"--name orders: .* was not made of a table"):
        prepare(tickets, name="orders")


def test_seqio_knows_the_tasks_and_those_of_a_changed_description(prepare, tickets, tmp_path, monkeypatch):
    monkeypatch.setattr(registration, "_described", {})
    prepare(tickets)
    registration.register_described(tmp_path / "DATA")
    assert sorted(seqio.get_mixture_or_task("tickets_step_by_step").splits) == ["test", "train", "validation"]
    first = seqio.TaskRegistry.get("tickets_label")
    registration.register_described(tmp_path / "DATA")
    assert seqio.TaskRegistry.get("tickets_label") is first
    prepare(tickets, validation=tickets, holdout=0)
    registration.register_described(tmp_path / "DATA")
    assert sorted(seqio.TaskRegistry.get("tickets_label").splits) == ["train", "validation"]
    seqio_tasks.remove_tasks(datasets.get("tickets", tmp_path / "DATA"))
    assert not [name for name in seqio.TaskRegistry.names() if name.startswith("tickets_")]


def test_a_registered_dataset_takes_the_place_of_a_description(
    prepare, tickets, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(registration, "_described", {})
    monkeypatch.setattr("stepdistill_jax.base.messages._said", set())
    monkeypatch.setattr(datasets.registry, "_DATASETS", dict(datasets.registry._DATASETS))
    prepare(tickets)
    registration.register_described(tmp_path / "DATA")
    ours = datasets.register(datasets.Dataset("tickets", dict, files={"train": ["a.jsonl"]}))
    assert list(seqio.TaskRegistry.get("tickets_label").splits) == ["train"]
    registration.register_described(tmp_path / "DATA")
    assert "describes 'tickets', but a Python file registers that name" in capsys.readouterr().err
    seqio_tasks.remove_tasks(ours)


def test_a_description_that_cannot_be_read_is_said_and_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stepdistill_jax.base.messages._said", set())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset.json").write_text("{", encoding="utf-8")
    registration.register_described(tmp_path)
    assert "dataset.json: not JSON" in capsys.readouterr().err


def test_label_words_are_of_labels_that_there_are(prepare, tickets, tmp_path):
    prepare(tickets, label_words={"return": "send back"})
    assert datasets.get("tickets", tmp_path / "DATA").label_words == {"return": "send back"}
    with pytest.raises(TableError, match="--label_word chat=…: no row has that label"):
        prepare(tickets, label_words={"chat": "talk"})
    with pytest.raises(TableError, match="--label_word return=repair: 'repair' is another label"):
        prepare(tickets, label_words={"return": "repair"})
    prepare(tickets, label_words={"return": "repair", "repair": "return"})


def test_texts_that_were_read_wrongly_are_said(prepare, write):
    rows = [*TICKETS, ("GrÃ¶ÃŸe", "passt nicht", "return"), ("Caf\ufffd", "is closed", "billing")]
    notes = prepare(write("a.csv", as_csv(rows)))["notes"]
    assert (
        "2 rows look as if they were read in a wrong encoding, or have lost characters: lines 12, 13, such as "
        "'GrÃ¶ÃŸe\\npasst nicht'"
    ) in notes
    assert not any("wrong encoding" in note for note in prepare(write("b.csv", as_csv(TICKETS)))["notes"])


def test_labels_that_are_merged_are_spelled_out(prepare, write):
    rows = [("a", "b", "gru\u0308n"), ("c", "d", "grün"), ("e", "f", "rot")]
    notes = prepare(write("a.csv", as_csv(rows)), merge_labels=True)["notes"]
    assert r"'gru\u0308n' is 'grün' (--merge_labels)" in notes


def test_texts_of_several_files_are_told_by_file_and_line(prepare, write):
    train = write("a.csv", as_csv([*TICKETS, ("GrÃ¶ÃŸe", "x", "return")]))
    test = write(
        "b.csv", as_csv([("Lamp flickers", "It goes on and off", "billing"), ("CafÃ©", "y", "return")])
    )
    notes = prepare(train, test=test)["notes"]
    assert any(f"({train}:2 'repair', {test}:2 'billing')" in note for note in notes)
    assert any(f"lost characters: {train}:12, {test}:3, such as" in note for note in notes)


@pytest.mark.parametrize("name", ["vocabularies", "token_cache", "downloads"])
def test_a_name_under_which_data_keeps_something_else_is_refused(prepare, tickets, name):
    with pytest.raises(ValueError, match=f"--name {name}: DATA keeps something else under that name"):
        prepare(tickets, name=name)


def test_rows_within_a_quoted_cell_are_said(prepare, write):
    path = write("a.csv", 'subject,body,queue\na,b,x\nc,"d,x\ne,f,y\ng,h",y\ni,j,x\n')
    assert any(
        note.startswith(f"{path}: line 3: a quoted cell holds what look like rows")
        for note in prepare(path)["notes"]
    )
