"""A dataset that a table was made into is taught by its name: the model is told its labels, and not asked for what it is shown."""

import pytest

from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.tabular.making import prepare_table
from stepdistill_jax.datasets.tabular.settings import TableSettings
from stepdistill_jax.teacher import Answer, PromptSettings, teach
from stepdistill_jax.teacher.prompting import starter_file

KINDS = {"lamp": "repair", "cup": "return", "bill": "billing"}


class Clerk:
    """Knows which queue a ticket belongs to; keeps the prompts that it gets."""

    name, model, chat = "clerk", "clerk-1", True

    def __init__(self):
        self.prompts = []

    async def answer(self, request):
        self.prompts.append(request.prompt)
        label = next(label for word, label in KINDS.items() if word in request.prompt[-1].content)
        return Answer(f"It is about that.\n**Answer:** {label.title()}.", "stop")


@pytest.fixture
def data_dir(tmp_path):
    """DATA with 'tickets': 24 training rows of three labels."""
    rows = [
        f"My {word} nr {n},{label},It names a {word}.\n" for n in range(8) for word, label in KINDS.items()
    ]
    (tmp_path / "tickets.csv").write_text("text,queue,why\n" + "".join(rows), encoding="utf-8")
    settings = TableSettings(
        "tickets", tmp_path / "tickets.csv", "{text}", "queue", rationale="why", holdout=0
    )
    prepare_table(settings, data_dir=tmp_path / "DATA")
    return tmp_path / "DATA"


def test_its_labels_are_told_and_answers_read_as_them(data_dir):
    clerk = Clerk()
    manifest = teach("tickets", teacher=clerk, data_dir=data_dir)
    assert "The labels:\n- billing\n- repair\n- return" in clerk.prompts[0][0].content
    assert manifest["parsed"] == {"train": 24}
    assert manifest["scores"]["train"]["accuracy"] == 100.0


def test_rows_of_the_prompt_are_not_asked_for(data_dir):
    from stepdistill_jax import datasets

    path, clerk = data_dir / "prompt.txt", Clerk()
    rows = datasets.read_examples("tickets", "train", data_dir)
    assert starter_file.write(path, datasets.get("tickets", data_dir), rows, 3) == 0
    manifest = teach("tickets", teacher=clerk, data_dir=data_dir, prompting=PromptSettings(str(path)))
    assert manifest["counts"] == {"train": 21}
    assert manifest["skipped"] == {"train": {"worked example of the prompt": 3}}
    assert len(clerk.prompts) == 21
    shown = {message.content for message in clerk.prompts[0] if message.role == "user"} - {
        clerk.prompts[0][-1].content
    }
    asked = {
        record["inputs"] for record in record_io.read_records(data_dir / "tickets/rationales/clerk", "train")
    }
    assert len(shown) == 3
    assert not shown & asked


def test_the_tables_own_rationales_are_a_teacher(data_dir):
    manifest = teach("tickets", teacher="worked", data_dir=data_dir)
    assert manifest["parsed"] == {"train": 24}
    first = next(record_io.read_records(data_dir / "tickets/rationales/worked", "train"))
    assert (first["rationale"], first["teacher_label"]) == ("It names a lamp.", "repair")
