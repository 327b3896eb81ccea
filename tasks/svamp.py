"""SVAMP (Patel et al. 2021): arithmetic word problems; the label is an equation, scored by its value."""

from stepdistill_jax import datasets


def to_example(row):
    if "input" in row:
        return datasets.Fields(row["input"], row["label"])
    return datasets.Fields(f"{row['Body']}\n{row['Question']}", row["Equation"])


datasets.register(
    datasets.Dataset(
        name="svamp",
        to_example=to_example,
        files={"train": ["svamp/svamp_train.json"], "test": ["svamp/svamp_test.json"]},
        home={"all": ["https://raw.githubusercontent.com/arkilpatel/SVAMP/main/SVAMP.json"]},
        cut_all=datasets.svamp_published,
        split_rows=datasets.hold_out_validation,
        metric="equation",
        completion=datasets.CompletionFormat("The answer is", "Q:", r"(\(.*\))"),
        expected_counts={"train": 720, "validation": 80, "test": 200},
        licence="MIT",
        homepage="https://github.com/arkilpatel/SVAMP",
    )
)
