"""The pages: links lead somewhere, paths in tables are there, and the README can be read at once."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "gin" / "meshes" / "README.md",
    ROOT / "tests" / "README.md",
]
MOST_LINES_OF_THE_README = 90


def read(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    """The anchors of a page's headings: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", read(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len(read(ROOT / "README.md").splitlines()) <= MOST_LINES_OF_THE_README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_there_are(page):
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", read(page)):
        name, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_where_is_names_paths_that_there_are():
    tables = read(ROOT / "WORKSPACE.md").partition("## Where is …")[2].partition("\n## ")[0]
    paths = re.findall(r"`([a-z0-9_]+/[\w/.]*)`", tables)
    assert len(paths) > 30
    assert [
        path for path in paths if not any((top / path).exists() for top in (ROOT, ROOT / "stepdistill_jax"))
    ] == []
