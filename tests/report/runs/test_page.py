"""The page opens from the file system alone, says what it should and trusts nothing that a model wrote."""

import json
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.report import write_report
from stepdistill_jax.report.runs.page import clip
from stepdistill_jax.report.style.drawing import method_colours

VOID = {"meta", "link", "br", "img", "input", "hr"}
CURVES = (
    "label_loss",
    "rationale_loss",
    "label_accuracy",
    "validation_accuracy",
    "learning_rate",
    "test_accuracy",
)


class Page(HTMLParser):
    """Checks that tags nest, and keeps what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.ids, self.addresses, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.addresses += [
            value for name, value in attributes if name in ("href", "src", "xlink:href", "data")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def report(run_folder, tmp_path) -> Path:
    runs = [
        run_folder("step_by_step"),
        run_folder("fine", method="fine_tuning", rationales=False, num_correct=100, seed=1),
    ]
    return write_report(runs, tmp_path / "out")


def test_one_run_is_reported_into_its_own_folder(run_folder):
    folder = run_folder("a")
    assert write_report([folder]) == folder / "report" / "index.html"
    assert write_report([folder]).is_file()  # and again over itself


def test_several_runs_are_reported_into_a_folder_of_their_names(run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a", "b", "c", "d"]
    folders = [run_folder(name, num_correct=None, steps=40) for name in names]
    assert write_report(folders[:2]) == Path("report-a-vs-b/index.html")
    assert write_report(folders) == Path("report-a-and-3-others/index.html")


def test_page_nests_and_asks_for_nothing_outside(report):
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    for address in page.addresses:
        assert address == "data:," or address[1:] in page.ids or (report.parent / address).is_file()
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)


def test_every_figure_is_a_valid_png_and_svg_with_an_alt_text(report):
    text = report.read_text(encoding="utf-8")
    for name in CURVES:
        assert_valid_png(report.parent / f"svamp-{name}.png")
        assert ElementTree.parse(report.parent / f"svamp-{name}.svg").getroot().tag.endswith("}svg")
    assert text.count('role="img" aria-label="') == len(CURVES)
    assert re.search(r"step_by_step, train: 2\.\d+ at step 20, 0\.3\d* at step 400", text)


def assert_valid_png(path: Path) -> None:
    """Walks the chunks with their checksums, and unpacks the pixels."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, pixels, kinds = 8, b"", []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        assert struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0] == zlib.crc32(
            kind + body
        )
        pixels += body if kind == b"IDAT" else b""
        kinds.append(kind)
        position += 12 + length
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    assert zlib.decompress(pixels)


def test_the_same_numbers_give_the_same_files(report, run_folder, tmp_path):
    before = {path.name: path.read_bytes() for path in report.parent.iterdir()}
    write_report([tmp_path / "step_by_step", tmp_path / "fine"], tmp_path / "out")
    assert {path.name: path.read_bytes() for path in report.parent.iterdir()} == before


def test_captions_say_command_commit_and_n(report):
    text = Page(report.read_text(encoding="utf-8")).text
    assert "stepdistill report" in text
    assert "runs at 0123456789" in text
    assert "n = 2 runs, 80 validation rows" in text
    assert "n = 200 test rows" in text


def test_predictions_are_escaped(run_folder):
    folder = run_folder("<b>run")
    path = next((folder / "predictions").glob("*.jsonl"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row |= {
            "prediction": "<script>alert(1)</script>",
            "inputs": "<img src=https://example.org/x onerror=y>",
        }
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(write_report([folder]).read_text(encoding="utf-8"))
    assert not {"script", "img", "b"} & set(page.tags)
    assert page.text.count("<script>alert(1)</script>") == 10


def test_a_runs_name_brings_no_html_into_the_markdown(run_folder, tmp_path):
    runs = [run_folder("<b>bold"), run_folder("<script>", method="fine_tuning", rationales=False)]
    write_report(runs, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert text.count("&lt;b>bold") >= 2  # in the table, and in a sentence on the difference
    assert "&lt;script>" in text
    assert not re.search(r"<[A-Za-z/!?]", text)


def test_a_sample_is_cut_by_lines_and_by_characters():
    assert clip("a\nb") == "a\nb"
    assert clip("\n".join("abcdefghijklmn")) == "\n".join("abcdefghijkl") + "…"
    assert clip("x" * 5_000) == "x" * 599 + "…"


def test_many_comparisons_are_folded_and_said_to_be_uncorrected(report, run_folder, tmp_path):
    text = report.read_text(encoding="utf-8")
    assert "<details open><summary>1 comparison in words" in text
    assert "Not corrected" not in text
    runs = [run_folder(f"many{i}", seed=i, steps=20) for i in range(6)]
    text = write_report(runs, tmp_path / "many").read_text(encoding="utf-8")
    assert "<details><summary>15 comparisons in words" in text
    assert "Not corrected for the 15 comparisons" in text


def test_long_names_that_differ_at_their_ends_stay_apart_in_figures():
    from stepdistill_jax.report.runs.figures import _short

    names = [f"rationale_then_teacher_label_seed{i}" for i in range(2)]
    assert [_short(name, 0) for name in names] == [
        "rationale_the…er_label_seed0",
        "rationale_the…er_label_seed1",
    ]
    assert [_short("seed0", 0), _short("日本", 2)] == ["seed0", "run 3"]


def test_samples_stand_beside_the_gold_label_and_say_right_or_wrong_in_words(report):
    text = report.read_text(encoding="utf-8")
    table = text[text.index('<table class="samples') :]
    table = table[: table.index("</table>")]
    assert table.count("✓ right") + table.count("✗ wrong") == 20
    assert table.count('class="id"') == 10
    assert "10 of 200 test rows" in table


def test_an_answer_without_a_metric_is_marked_neither_right_nor_wrong(run_folder):
    folder = run_folder("a")
    path = next((folder / "predictions").glob("*.jsonl"))
    path.write_text(re.sub(r'"correct": (true|false)', '"correct": null', path.read_text()))
    text = write_report([folder]).read_text(encoding="utf-8")
    assert "✓ right" not in text
    assert "✗ wrong" not in text


def test_a_run_in_progress_gives_a_page_with_a_note(run_folder):
    folder = run_folder("a", num_correct=None, steps=60)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 80, "spl')
    (folder / "timing.jsonl").unlink()
    page = write_report([folder])
    assert "is cut off and was left out" in page.read_text(encoding="utf-8")
    names = {path.name for path in page.parent.iterdir()}
    assert "svamp-label_loss.png" in names
    assert not {"svamp-test_accuracy.png", "svamp-validation_accuracy.png"} & names


def test_a_run_whose_losses_are_all_nan_still_gives_a_page(tmp_path):
    rows = [
        {"step": step, "split": "train", "loss": float("nan"), "label_loss": float("nan")} for step in (1, 2)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report([tmp_path])
    assert "train loss is not finite at step 1" in page.read_text(encoding="utf-8")


def test_a_run_without_split_losses_shows_its_loss(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 2.0}\n')
    assert (write_report([tmp_path]).parent / "unknown-loss.svg").is_file()


def test_a_teacher_with_no_run_of_its_dataset_is_in_the_table(run_folder, tmp_path):
    teacher = {
        "teacher": "palm",
        "dataset": "cqa",
        "scores": {"test": {"num_correct": 943, "num_examples": 1221}},
    }
    text = write_report([run_folder("a")], tmp_path / "out", teachers=[teacher]).read_text(encoding="utf-8")
    assert "943 of 1,221" in text


def test_config_and_versions_are_on_the_page(report):
    text = Page(report.read_text(encoding="utf-8")).text
    assert "StepByStepModel.rationale_weight = 1.0" in text
    assert "flax 0.12.0, jax 0.10.0" in text
    assert "python t5x/train.py --gin_file=gin/demo.gin" in text


def test_a_method_keeps_its_colour_whatever_stands_beside_it():
    alone, together = (
        method_colours(["step_by_step"]),
        method_colours(["mine", "fine_tuning", "step_by_step"]),
    )
    assert alone["step_by_step"] == together["step_by_step"] == METHODS["step_by_step"].colour
    assert together["mine"] not in (together["fine_tuning"], together["step_by_step"])


def test_importing_the_report_loads_no_model_and_no_plotting():
    code = "import sys, stepdistill_jax.report as r; print([m for m in ('jax','tensorflow','flax','matplotlib','numpy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
