"""A checkpoint in a gs:// bucket, which a small server on this machine plays by the JSON API of Cloud Storage."""

import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint

ROOT = Path(__file__).resolve().parents[3]
# TensorStore reads the address of Cloud Storage once in a process.
READ = """
import sys
import numpy as np
from stepdistill_jax.engine.checkpoint.saved_checkpoint import checkpoint_steps, open_checkpoint
checkpoint = open_checkpoint("gs://weights/t5/checkpoint_5")
array = checkpoint.parameters()["encoder/kernel"]
np.savez(sys.argv[1], steps=checkpoint_steps("gs://weights/t5"), step=checkpoint.step, rows=array[2:4].read().result())
try:
    open_checkpoint("gs://weights/t5/checkpoint_6")
except FileNotFoundError as error:
    print(error)
"""


@pytest.fixture
def bucket(tmp_path):
    """(the bucket's folder, the address of the server that shows it as gs://weights)."""
    folder = tmp_path / "weights"
    folder.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urllib.parse.urlparse(self.path)
            query = urllib.parse.parse_qs(url.query)
            name = urllib.parse.unquote(url.path.partition("/o/")[2])
            if not name:
                prefix = query.get("prefix", [""])[0]
                files = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
                items = [{"name": f, "generation": "1"} for f in files if f.startswith(prefix)]
                return self.answer(200, json.dumps({"kind": "storage#objects", "items": items}).encode())
            if not (folder / name).is_file():
                return self.answer(404, b"{}")
            return self.answer(200, (folder / name).read_bytes())

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("x-goog-generation", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_checkpoint_in_a_bucket_is_found_and_read_by_slices(bucket, tmp_path):
    folder, address = bucket
    kernel = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    write_checkpoint(folder / "t5" / "checkpoint_5", [("target/encoder/kernel", kernel)], step=5)
    environment = {
        **os.environ,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GCE_METADATA_ROOT": address.removeprefix("http://"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "read.npz")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "gs://weights/t5/checkpoint_6 is not a checkpoint: it has neither" in done.stdout
    with np.load(tmp_path / "read.npz") as read:
        assert read["steps"].tolist() == [5]
        assert read["step"] == 5
        np.testing.assert_array_equal(read["rows"], kernel[2:4])
