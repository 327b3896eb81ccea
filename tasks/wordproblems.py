"""The embedded default: our own generated arithmetic word problems, each with its worked solution and equation."""

from stepdistill_jax import datasets
from stepdistill_jax.datasets import wordproblems


def rows(split):
    return [{"problem": problem} for problem in wordproblems.generate(split)]


def to_example(row):
    problem = row["problem"]
    return datasets.Fields(problem.inputs, problem.label, explanation=problem.worked_solution)


datasets.register(
    datasets.Dataset(
        name="wordproblems",
        to_example=to_example,
        rows=rows,
        metric="equation",
        default_teacher="worked",
        expected_counts=wordproblems.SPLIT_SIZES,
        embedded=True,
        licence="Apache-2.0",
    )
)
