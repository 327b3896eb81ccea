"""The page of a sweep opens from the file system in a real browser: no errors, sortable, on a phone and in the dark."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from small_sweep import make_sweep

from stepdistill_jax.report import write_sweep_report

# Put into the page: gathers errors, presses the head of the runs' test column twice, and tells the page around it.
PROBE = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message || "a file did not load"), true);
addEventListener("load", () => {
  const table = document.querySelector("#table-runs table");
  const heads = [...table.querySelectorAll("thead th")];
  const column = heads.findIndex((head) => head.textContent === "Test (%)");
  const shown = () => [...table.tBodies[0].rows].map((row) => Number(row.children[column].dataset.sort));
  const press = () => { heads[column].querySelector("button").click(); return shown(); };
  const up = press(), sort = heads[column].getAttribute("aria-sort"), down = press();
  const root = document.documentElement;
  parent.postMessage({
    errors, up, sort, down, width: innerWidth, needed: root.scrollWidth, ground: getComputedStyle(document.body).backgroundColor,
  }, "*");
});
</script>
"""
AROUND = """<!DOCTYPE html><html><body><script>
addEventListener("message", (event) => {
  const found = JSON.parse(document.body.dataset.found || "[]");
  document.body.dataset.found = JSON.stringify([...found, event.data]);
});
</script><iframe src="probed.html" width="1280" height="900"></iframe><iframe src="probed.html" width="390" height="800"></iframe></body></html>"""
LIGHT, DARK = "rgb(251, 250, 248)", "rgb(20, 23, 26)"


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))),
        None,
    )
    if found is None:
        pytest.skip("no chromium here; install it to open the page in a browser")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = make_sweep(
        tmp_path_factory.mktemp("browser") / "small",
        sizes=["tiny"],
        methods=["fine_tuning", "step_by_step", "few_shot_cot"],
    )
    page = write_sweep_report(folder)
    text = page.read_text(encoding="utf-8")
    page.with_name("probed.html").write_text(text.replace("<head>", "<head>" + PROBE, 1), encoding="utf-8")
    page.with_name("around.html").write_text(AROUND, encoding="utf-8")
    return page


@pytest.mark.parametrize(("scheme", "ground"), [(1, LIGHT), (0, DARK)])
def test_the_page_opens_sorts_and_fits_without_errors(browser, page, tmp_path, scheme, ground):
    # Blink's preferredColorScheme: 0 is dark, 1 light.
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr",
        f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=10000", "--window-size=1400,1000",
        "--dump-dom", page.with_name("around.html").as_uri(),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in result.stderr
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', result.stdout)[1]))
    assert sorted(each["width"] for each in found) == [390, 1280]
    for each in found:
        assert each["errors"] == []
        assert each["needed"] <= each["width"]  # nothing sticks out sideways
        assert each["ground"] == ground
        assert each["sort"] == "ascending"
        assert each["up"] == sorted(each["up"])
        assert each["down"] == sorted(each["up"], reverse=True)
