"""Labels a second of a run's student: CTranslate2 int8 and float32, our JAX choice scoring and decoding, transformers; in turns, in one process.

    python bench/exports.py RUN [--texts 512] [--rounds 3] [--threads 2] [--data_dir DATA]

RUN is of a dataset with choices (bench/small_student.py trains one). Printed are the medians of the rounds, each way's labels against
float32's, and bytes on disk. transformers and torch are left out where they are not installed. All have the same number of threads.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stepdistill_jax.base.usable_cpus import limit_thread_pools

Label = Callable[[Sequence[str]], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data_dir", type=Path)
    args = parser.parse_args()
    limit_thread_pools(args.threads)

    from stepdistill_jax.exports.checking import validation_texts
    from stepdistill_jax.prediction.description import read_description

    texts = validation_texts(args.run, read_description(args.run), most=args.texts, data_dir=args.data_dir)
    with tempfile.TemporaryDirectory() as temporary:
        folders = _exports(args.run, Path(temporary), args)
        ways = _ways(args.run, folders, args.threads)
        labels = {name: way(texts) for name, way in ways.items()}  # compiles and warms up
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                begin = time.perf_counter()
                way(texts)
                seconds[name].append(time.perf_counter() - begin)
        _print(args, texts, labels, seconds, folders)


def _exports(run: Path, folder: Path, args: argparse.Namespace) -> dict[str, Path]:
    from stepdistill_jax.exports.export import export

    wanted = {
        "CTranslate2 int8": ("ctranslate2", "int8"),
        "CTranslate2 float32": ("ctranslate2", "float32"),
        "transformers float32": ("huggingface", "float32"),
    }
    folders = {}
    for number, (name, (to, quantization)) in enumerate(wanted.items()):
        written = export(
            run,
            folder / str(number),
            to=to,
            quantization=quantization,
            check_texts=args.texts,
            data_dir=args.data_dir,
        )
        print(f"{name}: {written.check.text if written.check else 'not checked'}")
        folders[name] = written.folder
    return folders


def _ways(run: Path, folders: dict[str, Path], threads: int) -> dict[str, Label]:
    from stepdistill_jax.prediction.predictor import Predictor

    ways: dict[str, Label] = {
        name: _scoring(Predictor(folders[name])) for name in ("CTranslate2 int8", "CTranslate2 float32")
    }
    predictor = Predictor(run)
    ways["JAX, choices scored"] = _scoring(predictor)
    ways["JAX, decoded"] = _scoring(_writing(predictor))
    if (way := _transformers(folders["transformers float32"], predictor, threads)) is not None:
        ways["transformers, decoded"] = way
    return ways


def _scoring(predictor) -> Label:
    return lambda texts: [prediction.label for prediction in predictor(texts)]


def _writing(predictor):
    """The same student, which writes its labels."""
    writing = object.__new__(type(predictor))
    description = dataclasses.replace(predictor.student.description, choices=())
    vars(writing).update(vars(predictor))
    writing.student = dataclasses.replace(predictor.student, description=description)
    writing.choices = ()
    return writing


def _transformers(folder: Path, predictor, threads: int, batch_size: int = 32) -> Label | None:
    try:
        import torch
        import transformers
    except ImportError:
        print("transformers or torch is not installed: left out")
        return None
    torch.set_num_threads(threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    description = predictor.student.description
    longest = description.feature_lengths

    @torch.inference_mode()
    def label(texts: Sequence[str]) -> list[str]:
        written = [description.label_prefix + text for text in texts]
        order = sorted(range(len(texts)), key=lambda place: len(written[place]))
        labels = [""] * len(texts)
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = tokenizer(
                [written[place] for place in places],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=longest["inputs"],
            )
            decoded = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=longest["targets"],
                num_beams=1,
                do_sample=False,
            )
            for place, text in zip(
                places, tokenizer.batch_decode(decoded, skip_special_tokens=True), strict=True
            ):
                labels[place] = text
        return labels

    return label


def _print(args, texts, labels, seconds, folders) -> None:
    print(
        f"{args.run}: {len(texts):,} texts, {args.threads} threads, medians of {args.rounds} rounds in turns"
    )
    exact = labels["CTranslate2 float32"]
    for name, times in seconds.items():
        median = statistics.median(times)
        same = sum(one == other for one, other in zip(labels[name], exact, strict=True))
        spread = f"{len(texts) / max(times):,.0f} to {len(texts) / min(times):,.0f}"
        print(
            f"  {name:22} {len(texts) / median:8,.1f} labels/s ({spread}); {100 * same / len(texts):6.2f} % the same as CTranslate2 float32"
        )
    for name, folder in folders.items():
        weights = [path for path in folder.iterdir() if path.suffix in (".bin", ".safetensors")]
        print(f"  {name:22} {sum(path.stat().st_size for path in weights) / 1e6:8,.1f} MB of weights")


if __name__ == "__main__":
    main()
