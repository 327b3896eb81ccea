"""e-SNLI (Camburu et al. 2018): does a premise entail, contradict or leave open a hypothesis?"""

from stepdistill_jax import datasets

LABELS = ("entailment", "neutral", "contradiction")
_HOME = "https://raw.githubusercontent.com/OanaMariaCamburu/e-SNLI/master/dataset/"


def to_example(row):
    # The published CSV has other names than the authors' JSON. The authors' code feeds premise and hypothesis as a pair
    # of segments; T5 has none, so they are named in the text, as T5 does for NLI.
    premise, hypothesis = row.get("premise") or row["Sentence1"], row.get("hypothesis") or row["Sentence2"]
    label = row["label"] if "label" in row else row["gold_label"]
    if label in (0, 1, 2):
        label = LABELS[label]
    if label not in LABELS:  # SNLI marks rows without agreement by -1 or '-'
        raise ValueError(f"the label {label!r} is none of 0, 1, 2 and {', '.join(LABELS)}.")
    explanation = row.get("explanation_1") or row.get("Explanation_1") or ""
    return datasets.Fields(f"premise: {premise} hypothesis: {hypothesis}", label, LABELS, explanation)


datasets.register(
    datasets.Dataset(
        name="esnli",
        to_example=to_example,
        files={
            "train": ["esnli/esnli_train_rows0-9999.jsonl", "esnli/esnli_train_sample.jsonl"],
            "validation": ["esnli/esnli_valid.json"],
            "test": ["esnli/esnli_test.json"],
        },
        home={
            "train": [f"{_HOME}esnli_train_1.csv", f"{_HOME}esnli_train_2.csv"],
            "validation": [f"{_HOME}esnli_dev.csv"],
            "test": [f"{_HOME}esnli_test.csv"],
        },
        full_files={"train": "esnli/esnli_train.json"},
        home_sha256={  # as tensorflow_datasets/url_checksums/esnli.txt has them
            f"{_HOME}esnli_train_1.csv": "7311c7bc16ad9f6a9adcd116a62ef991e1803dc0d71e253ce66b975c2aba8ee5",
            f"{_HOME}esnli_train_2.csv": "c8827fa2ba1ef5891f077d6fafbfc2fdb6cab1271968b74257e08d3b2b3cbacc",
            f"{_HOME}esnli_dev.csv": "d7a656d196eea18fd827d6f5486b00f5d4cf469dbf13a252cc211495a186bcb4",
            f"{_HOME}esnli_test.csv": "9269aa8075dbfed0fa8a5012eb2ac9c18a92be139671f05df897f69092592927",
        },
        choices=LABELS,
        completion=datasets.CompletionFormat("Answer:", "Premise", r"^ (.*?)\s*$"),
        expected_counts={"train": 549_367, "validation": 9_842, "test": 9_824},
        licence="e-SNLI: MIT-style; the SNLI text: CC BY-SA 4.0",
        homepage="https://github.com/OanaMariaCamburu/e-SNLI",
    )
)
