"""README.md of an export: what the student is, how it is asked, what it was made of, how well it does, under which licences."""

import json
from collections.abc import Iterator
from pathlib import Path

from stepdistill_jax.base.methods import words_of
from stepdistill_jax.base.visible import visible, visible_line
from stepdistill_jax.exports.checking import Check
from stepdistill_jax.prediction import calibration
from stepdistill_jax.prediction.description import StudentDescription
from stepdistill_jax.prediction.exported import CTRANSLATE2, GGUF, HUGGINGFACE
from stepdistill_jax.report.runs.folder import Accuracy, Run, read_run
from stepdistill_jax.report.runs.lineage import lineage_of_data

FLOAT16 = "float16 is how the weights are kept; T5s overflow where it is computed in: load them with dtype float32 or bfloat16."
_PAPER = "[Hsieh et al., ACL 2023](https://arxiv.org/abs/2305.02301)"


def model_card(
    run: Path,
    folder: Path,
    description: StudentDescription,
    *,
    to: str,
    quantization: str,
    step: int,
    check: Check | None,
) -> str:
    """The card's text, in Markdown with a head for the Hugging Face hub.

    Args:
      run: whose metrics, data and teacher are told.
      folder: of the export, as far as it is written.
      description: of the student.
      to, quantization: the export's.
      step: of its checkpoint.
      check: how its labels compare with the checkpoint's.
    """
    name = run.resolve().name
    # Metrics stay behind where a run was carried elsewhere as data for predictions alone.
    metrics = run / "metrics.jsonl"
    read = read_run(run, name=name) if metrics.is_file() and metrics.stat().st_size else None
    sections = [
        ("", _head(name, description, step)),
        ("How it is asked", _asking(description, to)),
        ("Scores", _scores(read, folder, step)),
        ("This export", _export(to, quantization, check)),
        ("What it was made of", _lineage(description)),
        ("Licences", _licences(description)),
    ]
    text = "\n\n".join((f"## {title}\n\n" if title else "") + "\n".join(lines) for title, lines in sections)
    return f"{_front_matter(to, description)}\n{text}\n"


def _front_matter(to: str, description: StudentDescription) -> str:
    """YAML, its strings written as JSON has them."""
    library = {CTRANSLATE2: "ctranslate2", HUGGINGFACE: "transformers", GGUF: "gguf"}[to]
    said = {
        "library_name": library,
        "tags": [
            "decoder-only" if description.is_decoder_only else "t5",
            "distilling-step-by-step",
            "stepdistill-jax",
        ],
        "license": "other",
        "license_name": "see-below",
    }
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in said.items()), "---", ""])


def _head(name: str, description: StudentDescription, step: int) -> Iterator[str]:
    how = (
        f"by {words_of(description.method)} ({_PAPER})"
        if description.method
        else "as one of its user's own tasks"
    )
    kind = "decoder-only" if description.is_decoder_only else "T5"
    yield f"# {name}: a {kind} student of {description.dataset.get('name', description.task)}"
    yield ""
    yield (
        f"Trained {how} with stepdistill-jax, on `{description.task}`; checkpoint of step {step:,}. "
        f"{_network(description)}"
    )


def _network(description: StudentDescription) -> str:
    network = description.network
    if description.is_decoder_only:
        what = f"A decoder of {network['num_layers']} layers"
    else:
        what = f"A T5 of {network['num_encoder_layers']} + {network['num_decoder_layers']} layers"
    return f"{what}, width {network['emb_dim']}, {network['vocab_size']:,} embeddings."


def _asking(description: StudentDescription, to: str) -> Iterator[str]:
    longest = description.feature_lengths["inputs"]
    blank = ", with the blank at its end" if description.label_prefix.endswith(" ") else ""
    yield f"- **Inputs need the prefix** {_code(description.label_prefix)} in front{blank}."
    if description.is_decoder_only:
        words = description.vocabulary
        yield f"- A text begins with the token {_code(words.start)}; inputs end with {_code(words.end)}, and so does the answer behind them."
    if description.learns_rationales:
        yield f"- With {_code(description.rationale_prefix)} in its place it writes a rationale."
    if description.answer_marker:
        yield f"- It writes a rationale, {_code(description.answer_marker)}, and the label behind that."
    yield f"- Inputs were cut at {longest:,} tokens in training, prefix and end of sequence included; cut longer ones there, too."
    if description.line_break:
        yield f"- A line break is written as {_code(description.line_break)}, with a blank on either side."
    if description.choices:
        yield f"- It has {len(description.choices)} choices, in this order: {_listed(description.choices)}."
        yield (
            "- A choice is picked by its log-probability as target, end of sequence included; of equal ones the first. "
            "Text that it writes freely may be none of them."
        )
    for label, word in description.label_words.items():
        yield f"- Label {_code(label)} is written as {_code(word)}."
    if template := description.dataset.get("inputs"):
        yield f"- Inputs are made of a row's columns by `{json.dumps(template, ensure_ascii=False)}`."
    yield ""
    yield "`student.json` says all of this to programs. stepdistill-jax does it all by itself:"
    yield ""
    if to == GGUF and description.is_decoder_only:
        prompt = f"{description.label_prefix}…{description.vocabulary.end}"
        yield f"    llama-cli -m student.gguf -no-cnv --temp 0 -p '{prompt}'    # it adds {description.vocabulary.start} itself"
        return
    if to == GGUF:
        yield (
            '    llama-cli -m student.gguf -p "'
            + description.label_prefix
            + "…\"    # llama.cpp's server has no T5"
        )
        return
    yield "    stepdistill serve FOLDER --port 8080"
    yield '    stepdistill_jax.Predictor("FOLDER")(["…"])'
    if to == HUGGINGFACE:
        kind = "AutoModelForCausalLM" if description.is_decoder_only else "AutoModelForSeq2SeqLM"
        yield f'    transformers.{kind}.from_pretrained("FOLDER")    # with the prefix, by yourself'


def _scores(run: Run | None, folder: Path, step: int) -> Iterator[str]:
    scored = [each for split in ("validation", "test") for each in (run.accuracies(split) if run else [])]
    of_step = [accuracy for accuracy in scored if accuracy.step == step]
    if of_step:
        yield "| split | accuracy in % (95 % interval, Wilson) | examples |"
        yield "|---|---|---|"
        yield from map(_score, of_step)
    else:
        yield "What this checkpoint scores is not known: no evaluation of it was there."
    calibrated = calibration.read_calibration(folder)
    if calibrated:
        yield ""
        yield (
            f"Probabilities are calibrated on {calibrated.num_examples:,} validation examples (temperature "
            f"{calibrated.temperature:.3g}): expected calibration error {calibrated.ece_before:.3f} before, "
            f"{calibrated.ece_after:.3f} after, on these same examples. The most likely choice is right on "
            f"{100 * calibrated.accuracy:.1f} % of them."
        )


def _score(accuracy: Accuracy) -> str:
    return f"| {accuracy.split} | {accuracy.text} | {accuracy.num_examples:,} |"


def _export(to: str, quantization: str, check: Check | None) -> Iterator[str]:
    yield f"Weights are {quantization}, for {to}."
    if to == HUGGINGFACE and quantization == "float16":
        yield FLOAT16
    if check:
        yield f"When it was written, {check.text}."
    elif to == GGUF:
        yield "Its tensors were read back as written; its answers were not compared with the checkpoint's."
    else:
        yield "**It was not checked against the checkpoint**: no validation texts were there."


def _lineage(description: StudentDescription) -> Iterator[str]:
    facts = lineage_of_data([description.content])
    if not facts:
        yield "The run does not say what its data were."
    for part, said in facts:
        yield f"- `{part}`: {said}"


def _licences(description: StudentDescription) -> Iterator[str]:
    said = description.dataset
    homepage = f" ({said['homepage']})" if said.get("homepage") else ""
    licence = said.get("licence") or "not stated"
    yield visible_line(f"- Data, {said.get('name', description.task)}{homepage}: {licence}.")
    yield (
        "- Where a teacher's answers were learnt from, the terms of that model's provider may say what may be done with a student "
        "of it. Where training began with a published checkpoint, its licence holds, too."
    )
    yield "- Whoever publishes this says here what holds for all of it together."


def _code(text: str) -> str:
    """The text as code, one line whatever it holds: labels are anyone's words, and are not to be Markdown."""
    shown = visible(text).replace("\n", "\\n").replace("\t", "\\t")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _listed(names: tuple[str, ...], most: int = 50) -> str:
    shown = ", ".join(map(_code, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
