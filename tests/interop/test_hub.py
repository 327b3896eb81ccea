"""hf://OWNER/NAME, through the hub's own client and a server on this machine that answers as the hub does."""

import hashlib
import http.server
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_folders import config_of, tensors_of, write_folder

from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("huggingface_hub"), reason="needs huggingface_hub"),
]
ROOT = Path(__file__).resolve().parents[2]
MAIN, TAGGED = "a" * 40, "b" * 40
LONGEST_SECONDS = 120


class Hub(http.server.ThreadingHTTPServer):
    """Models as {name: {commit: {file: bytes}}}; answers what huggingface_hub asks for a download.

    Attributes:
      asked: (method, path, Range) of every request for a file.
      break_off: how many more answers with weights end half-way.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.models, self.asked, self.break_off = {}, [], 0


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if match := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)(?:/(revision|tree)/([\w.-]+))?", path):
            self._tell(*match.groups())
        elif match := re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/(\w+)/(.+)", path):
            self.server.asked.append((self.command, match[3], self.headers.get("Range")))
            self._file(*match.groups())
        else:
            self._json({"error": "unknown"}, 404)

    def _tell(self, name, kind, revision):
        if name == "owner/private":
            return self._json({"error": "Invalid username or password."}, 401, "RepoNotFound")
        if name == "owner/gated":
            return self._json({"error": "Access is restricted."}, 403, "GatedRepo")
        if name not in self.server.models:
            return self._json({"error": "Repository not found"}, 404, "RepoNotFound")
        commit = {"main": MAIN, "v1": TAGGED}.get(revision or "main", revision)
        if commit not in self.server.models[name]:
            return self._json({"error": "Invalid rev id"}, 404, "RevisionNotFound")
        files = self.server.models[name][commit]
        if kind == "tree":
            return self._json(
                [
                    {"type": "file", "path": file, "size": len(content), "oid": _oid(content)}
                    for file, content in files.items()
                ]
            )
        return self._json({"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]})

    def _json(self, value, status=200, error_code=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error_code:
            self.send_header("X-Error-Code", error_code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _file(self, name, commit, file):
        content = self.server.models[name][commit][file]
        start = int(re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range") or "bytes=0-")[1])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{_oid(content)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command != "GET":
            return
        rest = content[start:]
        if self.server.break_off and file.endswith(".safetensors"):
            self.server.break_off -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


def _oid(content):
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub():
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def run(hub, tmp_path):
    """run(*arguments): `stepdistill convert`, asking this hub, with a cache of its own."""

    def convert(*arguments):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.run(
            [sys.executable, "-m", "stepdistill_jax.cli", "convert", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
        )

    return convert


@pytest.fixture
def model(hub, tmp_path):
    """A model on the hub in two revisions, with files that are not wanted."""
    config = config_of("t5_1_1")
    for commit, seed in ((MAIN, 0), (TAGGED, 1)):
        folder = write_folder(tmp_path / commit, config, tensors_of(config, seed=seed))
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        others = {"tf_model.h5": b"not wanted", "onnx/model.safetensors": b"nor this", "README.md": b"#"}
        hub.models.setdefault("owner/name", {})[commit] = files | others
    return "hf://owner/name"


def embedding(checkpoint):
    return open_checkpoint(checkpoint).parameters()["token_embedder/embedding"].read().result().tolist()


def test_a_model_is_downloaded_and_converted_once_and_by_revision(run, hub, model, tmp_path):
    done = run(model, "out")
    assert done.returncode == 0, done.stderr
    assert "--gin_file=out/model.gin" in done.stdout
    config = config_of("t5_1_1")
    assert embedding(tmp_path / "out/checkpoint_1000000") == tensors_of(config)["shared.weight"].tolist()
    assert {file for _, file, _ in hub.asked} == {"config.json", "model.safetensors"}

    hub.asked.clear()
    assert run(model, "again").returncode == 0
    assert not [file for method, file, _ in hub.asked if method == "GET"]

    assert run(f"{model}@v1", "tagged").returncode == 0
    expected = tensors_of(config, seed=1)["shared.weight"].tolist()
    assert embedding(tmp_path / "tagged/checkpoint_1000000") == expected


def test_torch_files_come_where_there_are_no_others(run, hub, model):
    files = hub.models["owner/name"][MAIN]
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    del files["onnx/model.safetensors"]
    done = run(model, "out")
    assert "pytorch_model.bin" in {file for _, file, _ in hub.asked}
    assert (
        "pytorch_model.bin: no whole zip archive" in done.stderr
    )  # it is none: but it was asked for and read


def test_a_download_that_breaks_off_goes_on(run, hub, model, tmp_path):
    hub.break_off = 1
    assert run(model, "out").returncode == 0
    wanted = tensors_of(config_of("t5_1_1"))["shared.weight"].tolist()
    assert embedding(tmp_path / "out/checkpoint_1000000") == wanted
    fetched = [file for method, file, _ in hub.asked if method == "GET"]
    assert fetched.count("model.safetensors") == 2
    assert fetched.count("config.json") == 1


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://owner/nothing", ["hf://owner/nothing was not downloaded", "no such model", "HF_TOKEN"]),
        ("hf://owner/private", ["no such model, or it is private", "HF_TOKEN"]),
        ("hf://owner/gated", ["gated", "accept its terms", "HF_TOKEN"]),
        ("hf://owner/name@v7", ["no revision 'v7'", "branch, tag or commit"]),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(run, model, tmp_path, address, parts):
    done = run(address, "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    for part in parts:
        assert part in line
    assert not (tmp_path / "out").exists()


def test_a_download_that_fails_is_one_line_and_the_same_command_goes_on(run, hub, model, tmp_path):
    hub.break_off = 1000
    done = run(model, "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "hf://owner/name was not downloaded" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
    hub.break_off = 0
    assert run(model, "out").returncode == 0
