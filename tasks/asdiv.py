"""ASDiv (Miao et al. 2020): arithmetic word problems without a published split; they augment SVAMP's training set."""

from stepdistill_jax import datasets


def to_example(row):
    body = row["body"] if "body" in row else row["Body"]
    question, answer = row.get("question") or row["Question"], row.get("answer") or row["Answer"]
    return datasets.Fields(f"{body.strip()}\n{question.strip()}", answer.split(" (")[0])  # '9 (apples)'


datasets.register(
    datasets.Dataset(
        name="asdiv",
        to_example=to_example,
        files={"train": ["asdiv/asdiv.jsonl"]},
        home={
            "train": ["https://raw.githubusercontent.com/chaochun/nlu-asdiv-dataset/master/dataset/ASDiv.xml"]
        },
        metric="equation",
        completion=datasets.CompletionFormat("The answer is", "Q:", r"(\(.*\))"),
        expected_counts={"train": 2_305},
        licence="CC BY-NC 4.0",
        homepage="https://github.com/chaochun/nlu-asdiv-dataset",
    )
)
