"""Examples and rationales: whether their files are whole, say what their manifest says, and belong together."""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from stepdistill_jax.datasets import described, record_io, registry
from stepdistill_jax.datasets.lineage import content
from stepdistill_jax.datasets.lineage.belonging import misfits
from stepdistill_jax.datasets.lineage.leaks import SplitOf, leaks
from stepdistill_jax.datasets.lineage.mixed_data import HOW_TO_GO_ON
from stepdistill_jax.datasets.lineage.reading import origin
from stepdistill_jax.report.runs.lineage import origin_text
from stepdistill_jax.report.verify.tree import Node, when


def is_data_folder(folder: Path) -> bool:
    """Whether a folder is DATA."""
    return any(folder.glob(f"*/examples/{record_io.MANIFEST}")) or any(
        folder.glob(f"*/rationales/*/{record_io.MANIFEST}")
    )


def verify_data(data: Path) -> Node:
    """All datasets of DATA."""
    names = sorted({path.parents[depth].name for depth, path in _manifests(data)})
    return Node(str(data), children=[verify_dataset(data / name) for name in names])


def _manifests(data: Path) -> Iterator[tuple[int, Path]]:
    yield from ((1, path) for path in data.glob(f"*/examples/{record_io.MANIFEST}"))
    yield from ((2, path) for path in data.glob(f"*/rationales/[!.]*/{record_io.MANIFEST}"))


def verify_dataset(folder: Path) -> Node:
    """DATA/<name>: its examples, and the rationales of every teacher."""
    rationales = sorted(path.parent for path in folder.glob(f"rationales/[!.]*/{record_io.MANIFEST}"))
    children = [verify_records(each) for each in (folder / "examples", *rationales)]
    problems = _description_problems(folder)
    if not any(child.problems for child in children):
        problems += _shared_questions(folder)
    return Node(folder.name, problems, children)


def _description_problems(folder: Path) -> list[str]:
    """What keeps the dataset.json, of a dataset that has one, from describing the examples beside it."""
    if not (folder / described.FILE).exists():
        return []
    try:
        choices = described.find(folder.name, folder.parent).choices
    except ValueError as error:
        return [str(error)]
    rows = _labels(folder / "examples") if choices else ()
    other = next((label for label in rows if label not in choices), None)
    return (
        []
        if other is None
        else [
            f"{folder / described.FILE}: 'choices' lacks {other!r}, a label of {folder / 'examples'} (train)."
        ]
    )


def _labels(examples: Path) -> Iterator[str]:
    manifest = record_io.read_manifest(examples) or {"counts": ()}
    if "train" in manifest["counts"]:
        rows = record_io.read_records(examples, "train", features=("label", "has_label"))
        yield from (row["label"] for row in rows if row["has_label"])


def _shared_questions(folder: Path) -> list[str]:
    """A line for each split whose questions are in the training examples, too, unless the dataset says why."""
    examples = folder / "examples"
    splits = (record_io.read_manifest(examples) or {"counts": ()})["counts"]
    try:
        on_purpose = registry.get(folder.name, folder.parent).shared_questions
    except ValueError:  # of nobody here: training would say so
        on_purpose = ""
    if on_purpose or "train" not in splits:
        return []
    train = [SplitOf(examples, "train")]
    lines = [line for split in splits if split != "train" for line in leaks(train, SplitOf(examples, split))]
    return [line.removesuffix(HOW_TO_GO_ON).rstrip() for line in lines]


def verify_records(folder: Path) -> Node:
    """One folder of records: its files' checksums, what each split says, and of rationales whether they answer the examples."""
    try:
        manifest = record_io.verify(folder)
    except ValueError as error:
        return Node(f"{folder.name}: not whole", [str(error)])
    name = folder.name if folder.name == "examples" else f"rationales of {folder.name}"
    counts = ", ".join(f"{count:,} {split}" for split, count in manifest["counts"].items())
    node = Node(f"{name}, {when(folder / record_io.MANIFEST)}: {counts}; {origin_text(origin(manifest))}")
    for split, count in manifest["counts"].items():
        said = (manifest.get(record_io.IDENTITY) or {}).get(split)
        identity = _identity(folder, split, count)
        node.children.append(
            Node(f"{split}: {identity}{'' if said else ' (computed: the manifest has none)'}")
        )
        if said and content.Identity.read(said) != identity:
            node.problems.append(
                f"{folder} ({split}): the manifest says {content.Identity.read(said)}; the records say {identity}. "
                "Write the folder again."
            )
        if folder.parent.name == "rationales":
            node.problems += _misfits(folder, split)
    return node


def _misfits(rationales: Path, split: str) -> list[str]:
    try:
        found = misfits(rationales, rationales.parents[1] / "examples", split)
    except ValueError as error:  # the examples are damaged
        return [str(error)]
    return [line.removesuffix(HOW_TO_GO_ON).rstrip() for line in found]


def _identity(folder: Path, split: str, count: int) -> content.Identity:
    """Computed from the records, whatever is kept of it elsewhere."""
    features = (*content.EXAMPLE_FEATURES, *content.ANSWER_FEATURES)
    records = tqdm(
        record_io.read_records(folder, split, features=features),
        total=count,
        desc=f"{folder.name} {split}",
        unit=" records",
        delay=1,
        leave=False,
        disable=None,
    )
    return content.index_of(records).identity
