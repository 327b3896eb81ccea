"""The page of runs on a phone: long words wrap, nothing sticks out, and a number stands apart from what it is called."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stepdistill_jax.report import write_report

LABELS = ["x" * 200, "مرحبا (شكوى)", '<b>&"quotes"\'</b>']
# Put into the page: tells the page around it what is wider than its place, and how a class's first number is shown.
PROBE = """
<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll(".scroll, tbody td, tbody th, figure")].filter((each) => each.scrollWidth > each.clientWidth + 1);
  const number = document.querySelector("[id^=choices] td");
  const range = document.createRange();
  range.selectNodeContents(number);
  const style = getComputedStyle(number);
  parent.postMessage({
    width: innerWidth, needed: document.documentElement.scrollWidth, wide: wide.map((each) => each.textContent.slice(0, 40)),
    gap: number.getBoundingClientRect().right - range.getBoundingClientRect().right - parseFloat(style.paddingRight),
  }, "*");
});
</script>
"""
AROUND = """<!DOCTYPE html><html><body><script>
addEventListener("message", (event) => { document.body.dataset.found = JSON.stringify(event.data); });
</script><iframe src="probed.html" width="360" height="800"></iframe></body></html>"""


@pytest.fixture(scope="module")
def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium here; install it to open the page in a browser")
    return found


def _write_choices(run: Path) -> None:
    lines = [{"choices": LABELS, "temperature": 1.0}]
    for number in range(9):
        label = LABELS[number % 3]
        row = {
            "example_id": f"svamp/test/{number}",
            "inputs": "W" * 5_000,
            "label": label,
            "predicted": LABELS[0],
        }
        lines.append(row | {"probability": 0.5, "probabilities": [0.5, 0.3, 0.2]})
    path = run / "predictions" / "choices-test-400.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_nothing_is_wider_than_a_phone(browser, run_folder, tmp_path):
    run = run_folder("a_name_" + "of_a_run_" * 15)
    _write_choices(run)
    page = write_report([run], tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    page.with_name("probed.html").write_text(text.replace("<head>", "<head>" + PROBE, 1), encoding="utf-8")
    page.with_name("around.html").write_text(AROUND, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}",
        "--virtual-time-budget=10000", "--window-size=1400,1000", "--dump-dom", page.with_name("around.html").as_uri(),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', result.stdout)[1]))
    assert found["width"] == 360
    assert found["needed"] <= 360
    assert found["wide"] == []
    assert abs(found["gap"]) < 1  # the number is at the right, what it is called at the left
