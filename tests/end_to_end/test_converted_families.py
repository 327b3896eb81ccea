"""What `stepdistill convert` prints trains a student of every family, with the family's own vocabulary."""

import json
import shlex
from pathlib import Path

import pytest
import sentencepiece
import seqio

from stepdistill_jax import datasets, teacher
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.interop.conversion import convert
from stepdistill_jax.launching import launch, task_modules

SMALL = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_heads": 2, "num_layers": 1, "num_decoder_layers": 1}
# Rows of the embedding, and what lies beside the weights: as in the public folders, but small where a family allows it.
FAMILIES = {
    "t5": (1152, "pieces"),
    "flan_t5": (1152, "pieces"),
    "t5_1_1": (32128, "none"),
    "mt5": (250112, "own_sentinels"),
    "umt5": (256, "own_sentinels"),
    "byt5": (384, "none"),
}
SHORT_RUN = (
    "TRAIN_STEPS = 2",
    "BATCH_SIZE = 8",
    "train.eval_period = 0",
    "train.train_eval_dataset_cfg = None",
    "train.infer_eval_dataset_cfg = None",
)
ROWS = 24


@pytest.fixture(scope="module")
def own_sentinels(tmp_path_factory):
    """A SentencePiece model that holds its sentinels, as mT5's and umT5's do."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "text").write_text("premise: hypothesis: [label] [rationale] a man sleeps contradiction\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "own"),
        vocab_size=26,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=["<extra_id_1>", "<extra_id_0>"],
        minloglevel=2,
    )
    return folder / "own.model"


@pytest.fixture(scope="module")
def esnli(tmp_path_factory):
    """DATA with a few prepared rows of e-SNLI and their explanations as rationales, and T5's vocabulary in its place."""
    published, data = tmp_path_factory.mktemp("published"), tmp_path_factory.mktemp("esnli") / "data"
    (published / "esnli").mkdir()
    row = {"premise": "A man sleeps.", "hypothesis": "A man is awake.", "label": 2}
    row |= {"explanation_1": "Who sleeps is not awake."}
    for split in ("train", "valid", "test"):
        lines = [json.dumps(row | {"premise": f"A man sleeps {i} hours of {split}."}) for i in range(ROWS)]
        (published / "esnli" / f"esnli_{split}.json").write_text("\n".join(lines))
    task_modules.load_tasks()
    datasets.prepare("esnli", from_folder=published, data_dir=data)
    teacher.teach("esnli", teacher="worked", data_dir=data)
    (data / "vocabularies").mkdir()
    (data / "vocabularies" / "t5.model").write_bytes(VOCABULARY_PATH.read_bytes())
    return data


@pytest.fixture
def huggingface_folder(own_sentinels, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "interop"))
    from huggingface_folders import config_of, tensors_of, write_folder

    def make(family):
        rows, beside = FAMILIES[family]
        config = config_of(family, **SMALL | {"vocab_size": rows})
        small = {
            name: tensor if "norm" in name else tensor / 4 for name, tensor in tensors_of(config).items()
        }
        folder = write_folder(tmp_path / "hf", config, small)
        file = {"pieces": VOCABULARY_PATH, "own_sentinels": own_sentinels}.get(beside)
        if file:
            (folder / "spiece.model").write_bytes(file.read_bytes())
        return folder, file

    return make


def expected_ids(family, file, text):
    if family == "byt5":
        return [byte + 3 for byte in text.encode()]
    sentinels = 0 if "mt5" in family else 100
    return seqio.SentencePieceVocabulary(str(file or VOCABULARY_PATH), extra_ids=sentinels).encode(text)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_printed_command_trains(family, huggingface_folder, esnli, tmp_path, monkeypatch):
    folder, file = huggingface_folder(family)
    monkeypatch.chdir(tmp_path)  # the command's paths are relative, as the user's were
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(esnli))
    command = convert(str(folder), Path("checkpoints") / family)[-1]
    python, script, *flags = shlex.split(command)
    assert (python, script) == ("python", "t5x/train.py")
    launch.main("train", [*flags, *(f"--gin_bindings={binding}" for binding in SHORT_RUN)])

    rows = [json.loads(line) for line in (tmp_path / "runs/my_run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1_000_001, 1_000_002]
    assert 0 < rows[0]["learning_rate"] < 1e-5  # the warm-up begins at the checkpoint's step

    # What the run read, and what its config.gin alone makes of the task.
    launch.read_config(["runs/my_run/config.gin"], [])
    task = seqio.get_mixture_or_task("esnli_rationale")
    [example] = (
        task.get_dataset(sequence_length=None, split="train", shuffle=False).take(1).as_numpy_iterator()
    )
    text = example["inputs_pretokenized"].decode()
    assert text.startswith("[rationale] premise: A man sleeps")
    assert example["inputs"].tolist() == [*expected_ids(family, file, text), 1]
