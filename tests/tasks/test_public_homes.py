"""What the public homes publish gives the same examples, row for row, as the files that the authors used.

The homes are played by a folder of their files' names, written here from the shared data in the homes' own formats (as
TFDS's readers of the same files know them: tensorflow_datasets/text/{cos_e,esnli}.py, datasets/anli).
"""

import csv
import dataclasses
import gzip
import io
import json
import random
import zipfile

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.datasets import sources
from stepdistill_jax.launching import task_modules

HEAD = 500  # rows of each split of e-SNLI and ANLI; the other sets are compared whole
NLI = ("entailment", "neutral", "contradiction")


def text_of(shared, name):
    with gzip.open(shared / "data" / name, "rt", encoding="utf-8") as file:
        return file.read()


def rows_of(shared, name):
    return [json.loads(line) for line in text_of(shared, name).splitlines()]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def cqa_files(shared):
    """CoS-E has the rows in the authors' order, CommonsenseQA in another; the two are joined by id."""
    files = {}
    for split, cose, cqa in (("train", "train", "train"), ("test", "dev", "dev")):
        rows = rows_of(shared, f"cqa/cqa_{split}.json.gz")
        files[f"cose_{cose}_v1.11_processed.jsonl"] = jsonl(
            {
                "id": row["id"],
                "explanation": {
                    "open-ended": row["abstractive_explanation"],
                    "selected": row["extractive_explanation"],
                },
            }
            for row in rows
        )
        questions = [
            {
                "id": row["id"],
                "answerKey": "ABCDE"[row["choices"].index(row["answer"])],
                "question": {
                    "stem": row["question"],
                    "choices": [
                        {"label": letter, "text": choice}
                        for letter, choice in zip("ABCDE", row["choices"], strict=True)
                    ],
                },
            }
            for row in rows
        ]
        random.Random(0).shuffle(questions)
        files[f"{cqa}_rand_split.jsonl"] = jsonl(questions)
    return files


def esnli_files(shared):
    def table(rows):
        columns = ["pairID", "gold_label", "Sentence1", "Sentence2", "Explanation_1"]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        for number, row in enumerate(rows):
            values = (
                f"{number}#0",
                NLI[row["label"]],
                row["premise"],
                row["hypothesis"],
                row.get("explanation_1", ""),
            )
            writer.writerow(dict(zip(columns, values, strict=True)))
        return text.getvalue()

    train = rows_of(shared, "esnli/esnli_train_rows0-9999.jsonl.gz")[:HEAD]
    return {
        "esnli_train_1.csv": table(train[:300]),
        "esnli_train_2.csv": table(train[300:]),
        "esnli_dev.csv": table(rows_of(shared, "esnli/esnli_valid.json.gz")[:HEAD]),
        "esnli_test.csv": table(rows_of(shared, "esnli/esnli_test.json.gz")[:HEAD]),
    }


def anli_files(shared):
    archive = io.BytesIO()
    valid, test = (rows_of(shared, f"anli/anli1_{split}.json.gz")[:HEAD] for split in ("valid", "test"))
    with zipfile.ZipFile(archive, "w") as members:
        for version in ("anli_v0.1", "anli_v1.0"):
            for split, rows in (("train", valid[:100]), ("dev", valid), ("test", test)):
                content = jsonl(
                    {
                        "uid": row["uid"],
                        "context": row["premise"],
                        "hypothesis": row["hypothesis"],
                        "label": "enc"[row["label"]],
                        "reason": row["reason"],
                    }
                    for row in rows
                )
                members.writestr(f"{version}/R1/{split}.jsonl", content)
    return {"anli_v0.1.zip": archive.getvalue(), "anli_v1.0.zip": archive.getvalue()}


FILES = {
    "svamp": lambda shared: {"SVAMP.json": text_of(shared, "svamp/SVAMP.json.gz")},
    "asdiv": lambda shared: {"ASDiv.xml": text_of(shared, "asdiv/ASDiv.xml.gz")},
    "cqa": cqa_files,
    "esnli": esnli_files,
    "anli": anli_files,
}
# ANLI's train rows in the shared folder have no gold label to compare.
SPLITS = {"anli": ("validation", "test")}


@pytest.mark.parametrize(
    "name", ["svamp", "asdiv", "cqa", pytest.param("esnli", marks=pytest.mark.slow), "anli"]
)
def test_the_public_home_gives_the_authors_rows(prepare_once, shared, tmp_path, monkeypatch, name):
    _, from_folder, _ = prepare_once(name)
    for file, content in FILES[name](shared).items():
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))

    def download(url, cache, *args, **settings):
        path = tmp_path / url.partition("#")[0].rsplit("/", 1)[-1]
        assert path.exists(), f"{url} is no file of this home"
        return path

    monkeypatch.setattr(sources, "download", download)
    datasets.prepare(name, data_dir=tmp_path / "DATA")
    for split in SPLITS.get(name, from_folder):
        from_home = datasets.read_examples(name, split, tmp_path / "DATA")
        if name not in ("esnli", "anli"):
            assert len(from_home) == len(from_folder[split])
        for ours, theirs in zip(from_home, from_folder[split], strict=False):
            # e-SNLI's train rows in the shared folder come without their explanations.
            if name == "esnli" and split == "train":
                ours, theirs = (dataclasses.replace(example, explanation="") for example in (ours, theirs))
            assert ours == theirs


def test_every_home_is_an_https_address():
    task_modules.load_tasks()
    for name in datasets.names():
        for urls in datasets.get(name).home.values():
            for url in [urls] if isinstance(urls, str) else urls:
                assert url.startswith("https://"), url
