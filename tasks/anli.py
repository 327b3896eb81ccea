"""ANLI, round 1 (Nie et al. 2020): adversarial natural language inference."""

from stepdistill_jax import datasets

LABELS = ("entailment", "neutral", "contradiction")
# Version 0.1, which TFDS reads too, with the checksum of its builder.
_ZIP = "https://dl.fbaipublicfiles.com/anli/anli_v0.1.zip"
_HOME = f"{_ZIP}#anli_v0.1/R1/"


def to_example(row):
    premise = row["premise"] if "premise" in row else row["context"]
    label = {"e": 0, "n": 1, "c": 2}.get(row.get("label"), row.get("label"))
    if label not in (None, 0, 1, 2):
        raise ValueError(f"the label {label!r} is none of 0, 1, 2.")
    return datasets.Fields(
        f"premise: {premise} hypothesis: {row['hypothesis']}",
        None if label is None else LABELS[label],  # the partial train file has no gold labels
        LABELS,
        row.get("reason") or "",
    )


datasets.register(
    datasets.Dataset(
        name="anli",
        to_example=to_example,
        files={
            "train": ["anli/anli1_train_partial.jsonl"],
            "validation": ["anli/anli1_valid.json"],
            "test": ["anli/anli1_test.json"],
        },
        home={
            "train": [f"{_HOME}train.jsonl"],
            "validation": [f"{_HOME}dev.jsonl"],
            "test": [f"{_HOME}test.jsonl"],
        },
        full_files={"train": "anli/anli1_train.json"},
        home_sha256={_ZIP: "16ac929a7e90ecf9093deaec89cc81fe86a379265a5320a150028efe50c5cde8"},
        choices=LABELS,
        completion=datasets.CompletionFormat("So the answer is", "Premise:", r"^\s*(.*?).$"),
        expected_counts={"train": 16_946, "validation": 1_000, "test": 1_000},
        licence="CC BY-NC 4.0",
        homepage="https://github.com/facebookresearch/anli",
    )
)
