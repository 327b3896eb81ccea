"""Published files of every kind give the same rows, bad ones are named by line, and downloads are kept."""

import functools
import gzip
import http.server
import json
import threading
import zipfile

import pytest
from riddles import RIDDLES, to_example, write_jsonl

from stepdistill_jax import datasets
from stepdistill_jax.base.whole_files import file_sha256
from stepdistill_jax.datasets import sources

ROWS = [{"question": "one\ttwo", "answer": 'say "x"'}, {"question": "größer, als?", "answer": "ja"}]


def read(folder, **files):
    dataset = datasets.Dataset(
        name="riddles", to_example=to_example, files={split: [name] for split, name in files.items()}
    )
    return sources.read_source(dataset, from_folder=folder, cache=folder / "cache")


def rows_of(source, split="train"):
    return [dict(row.values) for row in source.rows[split]]


def write(folder, name):
    if name.endswith(".jsonl"):
        write_jsonl(folder / name, ROWS)
    elif name.endswith(".json"):
        (folder / name).write_text(json.dumps(ROWS, indent=1, ensure_ascii=False), encoding="utf-8")
    elif name.endswith(".csv"):
        text = 'question,answer\n"one\ttwo","say ""x"""\n"größer, als?",ja\n'
        (folder / name).write_text(text, encoding="utf-8")
    elif name.endswith(".xml"):
        text = (
            "<set><Problem><question>one\ttwo</question><answer>say &quot;x&quot;</answer></Problem>"
            "<Problem><question>größer, als?</question><answer> ja </answer></Problem></set>"
        )
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "train.csv", "train.xml"])
def test_every_kind_of_file_gives_the_same_rows_packed_or_not(tmp_path, name, packed):
    write(tmp_path, name)
    if packed:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    source = read(tmp_path, train=name)
    assert rows_of(source) == ROWS
    assert [row.source_row for row in source.rows["train"]] == [0, 1]


def test_a_partial_file_says_which_rows_it_holds(tmp_path):
    write_jsonl(tmp_path / "part.jsonl", [{"idx": 7, **ROWS[0]}, {"idx": None, **ROWS[1]}])
    assert [row.source_row for row in read(tmp_path, train="part.jsonl").rows["train"]] == [7, -1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"question": 1}\n\n{"question": \n', r"a\.jsonl:3: not JSON"),
        ("a.json", '[\n{"question": 1},\n{]', r"a\.json:3: not JSON"),
        ("a.jsonl", '{"question": 1}\n[1, 2]\n', r"a\.jsonl:2: \[1, 2\] is not an object"),
        ("a.xml", "<set>\n<Problem>\n</set>", r"a\.xml:3: not XML"),
        ("a.jsonl", "", r"a\.jsonl: no rows for split 'train'"),
        ("a.txt", "hello", r"a\.txt: unknown kind '\.txt'; use \.json"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read(tmp_path, train=name)


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path):
    text = "before\u2028after\u0085end"
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"question": text}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    assert rows_of(read(tmp_path, train="a.jsonl")) == [{"question": text}]


def test_csv_rows_are_named_by_the_line_of_the_file_though_cells_hold_line_breaks(tmp_path):
    (tmp_path / "a.csv").write_text('question,answer\n"two\nlines",ja\nnext,nein\n', encoding="utf-8")
    assert [row.place.rsplit(":", 1)[-1] for row in read(tmp_path, train="a.csv").rows["train"]] == ["2", "4"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_spreadsheets_mark_and_delimiter_are_read(tmp_path, mark, delimiter):
    lines = [["question", "answer"], ["größer, als?", "ja"]]
    text = mark + "\r\n".join(delimiter.join(cells) for cells in lines)
    (tmp_path / "train.csv").write_text(text, encoding="utf-8", newline="")
    assert rows_of(read(tmp_path, train="train.csv")) == [{"question": "größer, als?", "answer": "ja"}]


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00broken", gzip.compress(b'{"a": 1}\n' * 1000)[:-12]],
    ids=["no gzip behind its mark", "cut"],  # a packed file holds the time
)
def test_a_damaged_gzip_file_is_named(tmp_path, content):
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz: cannot be read"):
        read(tmp_path, train="a.jsonl")


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train\.jsonl \(nor train\.jsonl\.gz\)"):
        read(tmp_path, train="train.jsonl")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read(tmp_path / "nowhere", train="train.jsonl")


@pytest.fixture
def home(tmp_path):
    """A public home: http://127.0.0.1:port/ serves a folder; gives (url, folder, list of requested paths)."""
    folder = tmp_path / "home"
    folder.mkdir()
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder, requests
        server.shutdown()
        thread.join()


def test_files_come_from_the_public_home_once(tmp_path, home):
    url, folder, requests = home
    write_jsonl(folder / "train.jsonl", RIDDLES)
    dataset = datasets.Dataset(name="riddles", to_example=to_example, home={"train": [f"{url}/train.jsonl"]})
    for _ in range(2):
        source = sources.read_source(dataset, from_folder=None, cache=tmp_path / "cache")
        assert rows_of(source) == RIDDLES
    assert requests.count("/train.jsonl") == 1


def test_a_member_of_a_downloaded_archive_is_read(tmp_path, home):
    url, folder, _ = home
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("set_v1/R1/train.jsonl", "".join(json.dumps(row) + "\n" for row in RIDDLES))
    address = f"{url}/set.zip#set_v1/R1/train.jsonl"
    dataset = datasets.Dataset(name="riddles", to_example=to_example, home={"train": [address]})
    assert rows_of(sources.read_source(dataset, from_folder=None, cache=tmp_path / "cache")) == RIDDLES
    missing = datasets.Dataset(name="riddles", to_example=to_example, home={"train": [f"{address}x"]})
    with pytest.raises(ValueError, match=r"set\.zip: cannot be read"):
        sources.read_source(missing, from_folder=None, cache=tmp_path / "cache")


def test_a_failed_download_says_which_file_and_what_else_to_do(tmp_path, home, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits between tries
    url, _, _ = home
    with pytest.raises(ValueError, match=r"Could not download http://127\S+/none\.jsonl: .*--from"):
        sources.download(f"{url}/none.jsonl", tmp_path / "cache")


def test_a_download_that_broke_off_is_not_taken_for_whole(tmp_path, home, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    url, _, _ = home
    with pytest.raises(ValueError, match="Could not download"):
        sources.download(f"{url}/none.jsonl", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_download_with_another_checksum_is_refused_and_not_kept(tmp_path, home, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    url, folder, _ = home
    write_jsonl(folder / "train.jsonl", RIDDLES)
    right = file_sha256(folder / "train.jsonl")
    with pytest.raises(ValueError, match="Could not download") as caught:
        sources.download(f"{url}/train.jsonl", tmp_path / "cache", sha256="0" * 64)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sources.download(f"{url}/train.jsonl", tmp_path / "cache", sha256=right).exists()


def test_one_file_may_be_given_by_its_name_alone(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    dataset = datasets.Dataset(name="riddles", to_example=to_example, files={"train": "train.jsonl"})
    assert rows_of(sources.read_source(dataset, from_folder=tmp_path, cache=tmp_path)) == ROWS


def test_the_full_file_is_read_in_the_place_of_a_part_of_it(tmp_path):
    write_jsonl(tmp_path / "part.jsonl", ROWS[:1])
    dataset = datasets.Dataset(
        name="riddles",
        to_example=to_example,
        files={"train": ["part.jsonl"]},
        full_files={"train": "full.json"},
    )
    assert len(sources.read_source(dataset, from_folder=tmp_path, cache=tmp_path).rows["train"]) == 1
    (tmp_path / "full.json.gz").write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    assert rows_of(sources.read_source(dataset, from_folder=tmp_path, cache=tmp_path)) == ROWS


def test_joined_rows_keep_the_order_of_the_home_and_a_missing_one_is_named(tmp_path, home):
    url, folder, _ = home
    write_jsonl(folder / "why.jsonl", [{"id": "b", "why": "2"}, {"id": "a", "why": "1"}])
    write_jsonl(folder / "what.jsonl", [{"id": "a", "question": "A?"}, {"id": "b", "question": "B?"}])
    write_jsonl(folder / "less.jsonl", [{"id": "a", "question": "A?"}])

    def read_joined(other):
        dataset = datasets.Dataset(
            name="riddles",
            to_example=to_example,
            home={"train": [f"{url}/why.jsonl"]},
            home_joins={"train": f"{url}/{other}"},
        )
        return rows_of(sources.read_source(dataset, from_folder=None, cache=tmp_path / "cache"))

    assert [(row["question"], row["why"]) for row in read_joined("what.jsonl")] == [("B?", "2"), ("A?", "1")]
    with pytest.raises(ValueError, match=r"why\.jsonl:1: the id 'b' is not in http\S+less\.jsonl"):
        read_joined("less.jsonl")
