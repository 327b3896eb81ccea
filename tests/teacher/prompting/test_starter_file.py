"""Prompts of a dataset without a prompt file, and the file to begin with."""

import re
from types import SimpleNamespace

import pytest

from stepdistill_jax import cli, datasets
from stepdistill_jax.teacher.prompting import prompt_files, starter_file
from stepdistill_jax.teacher.prompting.few_shot import PromptSettings, make_prompting

TICKETS = datasets.Dataset(
    "tickets",
    dict,
    rows=list,
    choices=("billing", "repair, urgent", "return"),
    completion=datasets.CompletionFormat("Answer:", "\nQ:", r"^\s*(.+?)\s*$"),
)


def example(number, label, *, inputs=None, why="", split="train"):
    text = inputs or f"Ticket {number}\n\n  [prompt]\nlabel: no label\u2028# no comment"
    return datasets.Example(
        f"tickets/{split}/{number}", "tickets", split, text, label, split, number, (), why
    )


ROWS = [example(n, TICKETS.choices[min(n % 5, 2)]) for n in range(20)]


def make(dataset=TICKETS, *, chat=True, labels=TICKETS.choices, rows=(), **settings):
    return make_prompting(
        dataset,
        model=SimpleNamespace(name="m", model="m-1", chat=chat),
        settings=PromptSettings(**settings),
        labels=labels,
        examples=lambda: rows,
    )


def test_without_a_file_the_teacher_is_told_the_labels():
    [system, user] = make().requests(ROWS[0], {})[0].prompt
    assert "The labels:\n- billing\n- repair, urgent\n- return\n" in system.content
    assert 'end with "Answer:" and one label, as it stands above.' in system.content
    assert user.content == ROWS[0].inputs


def test_an_instruction_of_the_dataset_is_told_too():
    import dataclasses

    told = dataclasses.replace(TICKETS, instruction="Route the ticket.")
    assert make(told).requests(ROWS[0], {})[0].prompt[0].content.startswith("Route the ticket.\nThe labels:")


def test_that_no_worked_example_is_shown_is_said(capsys, monkeypatch):
    monkeypatch.setattr("stepdistill_jax.base.messages._said", set())
    make()
    said = capsys.readouterr().err
    assert "tickets has no prompt file: the teacher is told its 3 labels and shown no worked example" in said
    assert "stepdistill teach tickets --prompt_from 8" in said


def test_a_starter_shows_each_label_in_turn_and_is_to_be_edited(tmp_path):
    path = tmp_path / "prompt.txt"
    assert starter_file.write(path, TICKETS, ROWS, 6) == 6
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^label: (.*)$", text, re.MULTILINE) == [*sorted(TICKETS.choices)] * 2
    assert text.count(prompt_files.TO_BE_WRITTEN) == 7  # the head says it, too
    with pytest.raises(ValueError, match=r"prompt.txt:\d+: the rationale is still \(say here why\)"):
        prompt_files.read_prompt_file(path, TICKETS)
    with pytest.raises(FileExistsError, match="is there; edit it"):
        starter_file.write(path, TICKETS, ROWS, 6)


def test_an_edited_starter_is_read_and_its_rows_are_not_asked_for(tmp_path):
    path = tmp_path / "prompt.txt"
    starter_file.write(path, TICKETS, ROWS, 3)
    path.write_text(
        path.read_text(encoding="utf-8").replace(prompt_files.TO_BE_WRITTEN, "It says so."), encoding="utf-8"
    )
    prompt = prompt_files.read_prompt_file(path, TICKETS)
    assert prompt.exemplars[0].question.splitlines()[1:] == ["[prompt]", "label: no label", "# no comment"]
    prompting = make(prompt=str(path), rows=ROWS)
    shown = {exemplar.question.splitlines()[0] for exemplar in prompt.exemplars}
    assert prompting.left_out == {row.example_id for row in ROWS if row.inputs.splitlines()[0] in shown}
    assert len(prompting.left_out) == 3
    with pytest.raises(ValueError, match="tickets/test/0 of the data to be labelled"):
        make(prompt=str(path), rows=[example(0, "return", inputs=prompt.exemplars[0].question, split="test")])


def test_rationales_of_the_table_are_taken(tmp_path):
    rows = [example(n, label, why=f"It is {label}.") for n, label in enumerate(TICKETS.choices)]
    assert starter_file.write(tmp_path / "prompt.txt", TICKETS, rows, 3) == 0
    prompt = prompt_files.read_prompt_file(tmp_path / "prompt.txt", TICKETS)
    assert {exemplar.rationale for exemplar in prompt.exemplars} == {
        f"It is {label}." for label in TICKETS.choices
    }


def test_short_rows_come_before_long_ones(tmp_path):
    rows = [example(n, "return", inputs=f"{n} " * (2000 if n < 9 else 1)) for n in range(10)]
    starter_file.write(tmp_path / "prompt.txt", TICKETS, rows, 1)
    assert "question: 9\n" in (tmp_path / "prompt.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [0, 21])
def test_a_number_that_there_is_not_is_refused(tmp_path, number):
    with pytest.raises(ValueError, match=f"--prompt_from {number}: tickets has"):
        starter_file.write(tmp_path / "prompt.txt", TICKETS, ROWS, number)
    assert not (tmp_path / "prompt.txt").exists()


def test_the_command_writes_it_beside_the_data(plums, capsys):
    assert cli.main(["teach", "plums", "--prompt_from", "2", "--data_dir", str(plums.data_dir)]) == 0
    path = plums.data_dir / "plums" / "prompt.txt"
    assert path.exists()
    said = capsys.readouterr().out
    assert f"Wrote {path}: 2 worked examples." in said
    assert (
        f"stepdistill teach plums --teacher openai:MODEL --base_url URL --prompt {path} --data_dir {plums.data_dir}"
        in said
    )
    assert cli.main(["teach", "plums", "--data_dir", str(plums.data_dir)]) == 2
    assert "--teacher is missing" in capsys.readouterr().err
