"""CommonsenseQA 1.11 (Talmor et al. 2019) with CoS-E's explanations: one of five choices."""

from stepdistill_jax import datasets

_HOME = "https://s3.amazonaws.com/commonsensqa/"


def to_example(row):
    if isinstance(row["question"], dict):  # CommonsenseQA's own file
        choices = {choice["label"]: choice["text"] for choice in row["question"]["choices"]}
        row = {
            "question": row["question"]["stem"],
            "choices": choices.values(),
            "answer": choices[row["answerKey"]],
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
        home={"train": [f"{_HOME}train_rand_split.jsonl"], "test": [f"{_HOME}dev_rand_split.jsonl"]},
        split_rows=datasets.hold_out_validation,
        completion=datasets.CompletionFormat("So the answer is", "Q:", r"\(.\)\s*(.+?)\s*\.?\s*(?:\(.\)|$)"),
        expected_counts={"train": 8_766, "validation": 975, "test": 1_221},
        licence="CommonsenseQA: MIT; CoS-E: BSD 3-Clause",
        homepage="https://www.tau-nlp.org/commonsenseqa",
    )
)
