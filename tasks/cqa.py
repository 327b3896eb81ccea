"""CommonsenseQA 1.11 (Talmor et al. 2019) with CoS-E's explanations: one of five choices."""

from stepdistill_jax import datasets

# CoS-E's files have the order of the authors' rows, which the 10 % cut and recorded completions go by.
_COSE = "https://raw.githubusercontent.com/salesforce/cos-e/master/data/v1.11"
_CQA = "https://s3.amazonaws.com/commensenseqa"  # so spelt


def to_example(row):
    if isinstance(row["question"], dict):  # CommonsenseQA's own form, joined to CoS-E's explanation
        choices = {choice["label"]: choice["text"] for choice in row["question"]["choices"]}
        row = {
            "question": row["question"]["stem"],
            "choices": choices.values(),
            "answer": choices[row["answerKey"]],
            "abstractive_explanation": row["explanation"]["open-ended"],
        }
    choices = tuple(row["choices"])
    lines = "\n".join(f"({letter}) {choice}" for letter, choice in zip("abcde", choices, strict=True))
    explanation = row.get("abstractive_explanation") or ""
    return datasets.Fields(
        f"{row['question']}\nAnswer Choices:\n{lines}", row["answer"], choices, explanation
    )


datasets.register(
    datasets.Dataset(
        name="cqa",
        to_example=to_example,
        files={"train": ["cqa/cqa_train.json"], "test": ["cqa/cqa_test.json"]},
        home={
            "train": [f"{_COSE}/train/cose_train_v1.11_processed.jsonl"],
            "test": [f"{_COSE}/dev/cose_dev_v1.11_processed.jsonl"],
        },
        home_joins={"train": f"{_CQA}/train_rand_split.jsonl", "test": f"{_CQA}/dev_rand_split.jsonl"},
        home_sha256={  # as tensorflow_datasets/url_checksums/cos_e.txt has them
            f"{_COSE}/train/cose_train_v1.11_processed.jsonl": "4c0ccfd34243cf7af62b441643437769663edcb980b991487f766b97a547e9bd",
            f"{_COSE}/dev/cose_dev_v1.11_processed.jsonl": "a8367c94901ba249e48bcec76eaff9e7b91cec0f0e4d94879975d7d1b952bc41",
            f"{_CQA}/train_rand_split.jsonl": "58ffa3c8472410e24b8c43f423d89c8a003d8284698a6ed7874355dedd09a2fb",
            f"{_CQA}/dev_rand_split.jsonl": "3210497fdaae614ac085d9eb873dd7f4d49b6f965a93adadc803e1229fd8a02a",
        },
        split_rows=datasets.hold_out_validation,
        completion=datasets.CompletionFormat("So the answer is", "Q:", r"\(.\)\s*(.+?)\s*\.?\s*(?:\(.\)|$)"),
        expected_counts={"train": 8_766, "validation": 975, "test": 1_221},
        licence="CommonsenseQA: MIT; CoS-E: BSD 3-Clause",
        homepage="https://www.tau-nlp.org/commonsenseqa",
    )
)
