"""The bench of accelerators: bad flags are refused, contenders take turns, and losses that should be the same are compared."""

import argparse
import dataclasses
import json
import math
import os
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
MODULES = ("accelerator", "accelerator_contenders", "accelerator_examples", "accelerator_table", "accelerator_turns", "batches", "compare", "contender")  # fmt: skip
# A contender that needs no network: argv[1] holds the settings, what it measures is in their 'network'.
MADE_UP = """
import json, sys, time
say = lambda **values: print(json.dumps(values), flush=True)
settings = json.loads(sys.argv[1])
made = settings["network"]
if "prepare_error" in made:
    say(error=made["prepare_error"])
    sys.exit(1)
if made.get("dies"):
    sys.exit("Killed by hand")
time.sleep(made.get("prepare_sleep", 0))
say(compile_seconds=1.5)
for line in sys.stdin:
    if line.startswith("train"):
        time.sleep(made.get("train_sleep", 0))
        say(
            device_kind="NVIDIA H200", losses=made.get("losses", [10.0, 9.0]), step_ms=2.0, piped_ms=1.0, tokens_per_second=1e5,
            target_tokens=100, fill=0.5, peak_gib=1.0, first_step_seconds=1.0, forwards=[[[2, 8, 4]]], versions="jax 9", notes=["made up"],
        )
    elif "labels_error" in made:
        say(error=made["labels_error"])
        sys.exit(1)
    else:
        say(labels_per_second=7.0)
"""


@pytest.fixture
def bench(monkeypatch):
    """The bench's modules by name, without their common prefix."""
    monkeypatch.syspath_prepend(str(BENCH))
    import importlib

    return argparse.Namespace(
        **{name.removeprefix("accelerator_"): importlib.import_module(name) for name in MODULES}
    )


@pytest.fixture
def main(bench, monkeypatch, capsys):
    """Runs the command; gives (exit status, what it said on standard error). Contenders must not be started."""

    def started(*_, **__):
        raise AssertionError("a contender was started")

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["accelerator.py", *map(str, flags)])
        monkeypatch.setattr(bench.accelerator, "Child", started)
        monkeypatch.setattr(bench.accelerator.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            bench.accelerator.main()
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def settings(bench):
    """Settings of a made-up contender."""

    def make(name, **changes):
        values = dict(
            name=name, who="ours", size="tiny", examples="none", rows=2, inputs=8, targets=4, padded_examples=2, steps=1, labels=0,
            label_batch=1, dropout_rate=0.1, dtype="bfloat16",
        )  # fmt: skip
        return bench.contenders.Settings(**{**values, **changes})

    return make


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples.json"
    rows = [[[5, 6, 7, 1], [8, 1]], [[5, 6, 1], [8, 9, 10, 1]]]
    path.write_text(json.dumps({"label": rows, "rationale": rows}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sizes", "huge"], "--sizes: invalid choice: 'huge'"),
        (["--attention", "plain", "quick"], "ours base: quick, dropout 0.1: attention='quick'; use one of"),
        (["--rows", "0"], "--rows=0; use 1 or more."),
        (["--steps", "0"], "--steps=0; use 1 or more."),
        (["--dropout", "1"], "--dropout=1; it must lie in [0, 1)."),
        (["--dtype", "int8"], "--dtype=int8; use bfloat16 or float32."),
        (["--scan", "maybe"], "--scan=maybe; use yes, no or auto."),
        (["--remat", "some"], "remat_policy='some'; use"),
        (["--microbatches", "3"], "batch_size=16 does not split into num_microbatches=3"),
        (["--labels", "100"], "--labels=100 are no whole batches of --label_batch=128; use a multiple."),
        (["--set", "head_dims=4"], "T5Config has no 'head_dims'; nearest 'head_dim'"),
        (["--set", "attention=xla"], "--set attention=xla: use --attention."),
        (["--set", "logits_via_embedding"], "use NAME=VALUE"),
        (["--attention", "plain", "plain"], "'ours base: plain, dropout 0.1' is asked for twice"),
        (["--examples", "nowhere.json"], "--examples=nowhere.json is not there; make it by --write_examples."),
        (["--out", "nowhere/out.jsonl"], "--out=nowhere/out.jsonl: No such file or directory."),
        (["--who", "t5x"], "--who t5x: set T5X_SOURCE"),
        (["--who", "huggingface"], "--who huggingface: set HF_PYTHON"),
        (["--who", "huggingface", "--hf_python", "no-such-python"], "no-such-python is no program"),
        (["--who", "t5x", "--t5x_python", "python", "--t5x_source", "/no/tree"], "T5X_SOURCE: /no/tree is no folder."),
        (["--write_examples", "e.json", "--data_dir", "/no/data"], "/no/data/svamp/rationales is not there"),
        (["--jobs", "0"], "--jobs=0; use 1 or more."),
        (["--turn_seconds", "0"], "--turn_seconds=0; use more than 0."),
    ],
)  # fmt: skip
def test_bad_flags_are_refused_in_one_line_before_anything_starts(main, monkeypatch, tmp_path, flags, said):
    for name in ("T5X_SOURCE", "T5X_PYTHON", "HF_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    status, line = main(*flags)
    assert (status, line.count("\n")) == (2, 1)
    assert said in line


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("[1, 2", [], "does not hold"),
        ('{"label": [[[5, 1], [6, 1]]]}', [], "KeyError: 'rationale'"),
        ('{"label": [], "rationale": []}', [], "does not hold"),
        (None, ["--inputs", "3"], "--inputs=3: "),
        (None, ["--targets", "3"], "has targets of 4 tokens; use that or more."),
        (None, ["--labels", "3"], "--labels=3: "),
        (
            None,
            ["--who", "huggingface", "--hf_python", sys.executable],
            "--padded_examples=256: ",
        ),
    ],
)
def test_examples_that_do_not_serve_are_refused(main, examples, text, flags, said):
    if text is not None:
        examples.write_text(text, encoding="utf-8")
    status, line = main("--examples", examples, "--label_batch", 1, "--labels", 0, *flags)
    assert (status, line.count("\n")) == (2, 1)
    assert said in line
    assert str(examples) in line


def test_ids_beyond_the_vocabulary_are_refused(main, examples):
    examples.write_text(
        json.dumps({kind: [[[32128, 1], [6, 1]]] for kind in ("label", "rationale")}), encoding="utf-8"
    )
    _, line = main("--examples", examples, "--labels", 0)
    assert "has the token id 32128; the models know 32128." in line


def test_made_up_examples_fill_rows_have_the_stated_lengths_and_are_always_the_same(bench, tmp_path):
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path in paths:
        bench.examples.made_up(path, num_examples=300, lengths=(256, 128), vocab_size=100)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    made = bench.batches.load(paths[0])
    for kind in ("label", "rationale"):
        for side, of in enumerate(("inputs", kind)):
            lengths = [len(example[side]) - 1 for example in made[kind]]
            assert (min(lengths), max(lengths)) == bench.examples.MADE_UP_LENGTHS[of]
    assert {token for of in made.values() for example in of for ids in example for token in ids} == {
        1,
        *range(3, 100),
    }
    bench.examples.check(paths[0], lengths=(256, 128), labels=300, padded_examples=600, vocab_size=100)
    batch = next(bench.batches.packed_batches(bench.batches.alternating(made), 4, (1024, 512)))
    assert bench.batches.num_tokens(batch) > 0.85 * 4 * 1536


def test_short_rows_get_short_made_up_examples(bench, tmp_path):
    path = tmp_path / "examples.json"
    bench.examples.made_up(path, num_examples=20, lengths=(16, 8), vocab_size=100)
    bench.examples.check(path, lengths=(16, 8), labels=20, padded_examples=40, vocab_size=100)


def test_every_combination_of_flags_is_a_contender_with_a_name_of_its_own(bench, tmp_path):
    parser = argparse.ArgumentParser()
    bench.contenders.add_flags(parser)
    flags = "--sizes tiny small --attention plain xla --dropout 0.0 0.1 --scan auto no --remat full --microbatches 1 2 --set logits_dot_in_fp32=False --xla_flags=--xla_a=1"
    args = parser.parse_args(flags.split())
    made = bench.contenders.contenders(args, tmp_path / "examples.json")
    names = [of.name for of in made]
    assert len(names) == len(set(names)) == 2 * 2 * 2 * 2 * 2 * 2
    assert names[0] == "ours tiny: plain, dropout 0, remat full, logits_dot_in_fp32=False"
    assert names[-1] == (
        "ours small: xla, dropout 0.1, unrolled, remat full, 2 microbatches, xla_a=1, logits_dot_in_fp32=False"
    )
    last = made[-1]
    assert last.network == {
        "attention": "xla", "logits_dot_in_fp32": False, "remat_policy": "full", "scan_layers": False,
    }  # fmt: skip
    assert (last.num_microbatches, last.model, made[0].num_microbatches) == (2, {}, None)
    assert (last.xla_flags, made[0].xla_flags) == ("--xla_a=1", "")
    for base, expected in (({}, "--xla_a=1"), ({"XLA_FLAGS": "--xla_b"}, "--xla_b --xla_a=1")):
        assert bench.turns.environment(last.xla_flags, base)["XLA_FLAGS"] == expected
    assert "XLA_FLAGS" not in bench.turns.environment("", {})


def test_sizes_are_those_of_the_gin_files(bench):
    import re

    names = {"num_layers": "num_encoder_layers"}
    for size in ("small", "base", "large", "xl"):
        text = (BENCH.parent / f"gin/models/t5_1_1_{size}.gin").read_text(encoding="utf-8")
        said = {name: int(value) for name, value in re.findall(r"^  (\w+) = (\d+)", text, re.MULTILINE)}
        assert said["num_encoder_layers"] == said["num_decoder_layers"]
        for name, value in bench.contender.SIZES[size].items():
            assert said[names.get(name, name)] == value


def made_up_child(bench):
    def start(of):
        command = [sys.executable, "-c", MADE_UP, json.dumps(dataclasses.asdict(of))]
        return bench.compare.Child(of.name, command, python_path="", environment=dict(os.environ))

    return start


def run(bench, monkeypatch, contenders, tmp_path, capsys, **flags):
    """(exit status, standard output, JSON objects) of a run of made-up contenders."""
    values = dict(
        rows=2, inputs=8, targets=4, labels=1, label_batch=1, jobs=2, examples=None, profile=None, prepare_seconds=None,
        turn_seconds=None,
    )  # fmt: skip
    args = argparse.Namespace(**{**values, **flags})
    monkeypatch.setattr(
        bench.accelerator.accelerator_contenders,
        "command",
        lambda of, args: ([sys.executable, "-c", MADE_UP], ""),
    )
    path = tmp_path / "out.jsonl"
    with path.open("a", encoding="utf-8") as out:
        status = bench.accelerator.run(args, contenders, out)
    return status, capsys.readouterr().out, [json.loads(line) for line in path.read_text().splitlines()]


def test_results_are_written_as_they_come_and_shown_as_markdown(
    bench, monkeypatch, settings, tmp_path, capsys
):
    contenders = [settings("ours tiny: a", labels=1), settings("T5X tiny", who="t5x")]
    status, shown, lines = run(bench, monkeypatch, contenders, tmp_path, capsys)
    assert status == 0
    assert [line["event"] for line in lines] == ["run", "result", "result"]
    assert lines[0]["flags"]["rows"] == 2
    first = lines[1]
    assert first["contender"]["name"] == "ours tiny: a"
    assert first["labels_per_second"] == 7.0
    assert first["first_step_seconds"] > 1.0  # until it was ready, too
    flops = bench.accelerator.accelerator_costs.flops("tiny", 2, 8, 4)
    assert first["mfu"] == pytest.approx(flops / 1e-3 / 989e12)
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    cells = [cell.strip() for cell in rows[2].strip("|").split("|")]
    assert cells[:5] == ["ours tiny: a", "2.0", "1.0", "100,000", "50%"]
    assert cells[-2:] == ["7", "10.0000 9.0000"]
    assert "ours tiny: a: made up" in shown
    assert shown.startswith("NVIDIA H200; 2 rows of 8 and 4 tokens; token ids: made up, ")
    assert ", jax 9\n" in shown


def test_a_contender_that_fails_leaves_a_row_and_the_others_go_on(
    bench, monkeypatch, settings, tmp_path, capsys
):
    contenders = [
        settings("ours tiny: refused", network={"prepare_error": "RuntimeError: no such kernel"}),
        settings("ours tiny: dead", network={"dies": True}),
        settings(
            "ours tiny: no labels", labels=1, network={"labels_error": "JaxRuntimeError: out of memory"}
        ),
        settings("ours tiny: good", labels=1),
    ]
    status, shown, lines = run(bench, monkeypatch, contenders, tmp_path, capsys)
    assert status == 1
    results = {line["contender"]["name"]: line for line in lines[1:]}
    assert results["ours tiny: refused"]["error"] == "RuntimeError: no such kernel"
    assert results["ours tiny: dead"]["error"] == "ours tiny: dead ended with code 1: Killed by hand"
    assert results["ours tiny: no labels"]["error"] == "JaxRuntimeError: out of memory"
    assert results["ours tiny: no labels"]["piped_ms"] == 1.0
    assert "error" not in results["ours tiny: good"]
    assert results["ours tiny: good"]["labels_per_second"] == 7.0
    assert shown.count("FAILED") == 3
    assert "ours tiny: refused: FAILED: RuntimeError: no such kernel" in shown.splitlines()


def test_losses_that_should_be_the_same_and_are_not_are_said_and_end_with_status_1(
    bench, monkeypatch, settings, tmp_path, capsys
):
    contenders = [settings("ours tiny: plain"), settings("ours tiny: wrong", network={"losses": [10.0, 9.5]})]
    status, shown, lines = run(bench, monkeypatch, contenders, tmp_path, capsys)
    assert status == 1
    line = shown.splitlines()[-1]
    allowed = bench.table.TOKEN_TOLERANCE / math.sqrt(100) + bench.table.RELATIVE_TOLERANCE * 9.0
    assert line == (
        f"LOSSES: ours tiny: wrong: 9.500000 at step 2, where ours tiny: plain has 9.000000; they may differ by {allowed:.6f}."
    )
    assert lines[-1] == {"event": "losses", "line": line}


def test_losses_are_compared_only_where_they_should_be_the_same(bench, settings):
    measured = {"losses": [10.0], "target_tokens": 100}
    others = {
        "another size": {"size": "small"},
        "another dtype": {"dtype": "float32"},
        "other dropout": {"dropout_rate": 0.0},
        "drops by parts": {"num_microbatches": 2},
        "other random numbers": {"who": "t5x"},
    }
    contenders = [settings("first"), *(settings(name, **changes) for name, changes in others.items())]
    results = {"first": measured, **{name: {**measured, "losses": [5.0]} for name in others}}
    assert bench.table.loss_differences(contenders, results) == []
    alike = [
        settings(name, dropout_rate=0.0, num_microbatches=parts) for name, parts in (("a", None), ("b", 2))
    ]
    found = bench.table.loss_differences(alike, {"a": measured, "b": {**measured, "losses": [5.0]}})
    assert [line.split(":")[:2] for line in found] == [["LOSSES", " b"]]


def test_losses_may_differ_by_rounding(bench, settings):
    contenders = [settings("plain"), settings("close"), settings("off")]
    losses = {"plain": [10.0, 9.0], "close": [10.005, 9.005], "off": [10.005, 9.02]}
    results = {name: {"losses": of, "target_tokens": 100} for name, of in losses.items()}
    (line,) = bench.table.loss_differences(contenders, results)
    assert line.startswith("LOSSES: off: 9.020000 at step 2, where plain has 9.000000")


def test_what_was_measured_before_the_end_of_a_lease_is_shown_and_kept(
    bench, monkeypatch, settings, tmp_path, capsys
):
    contenders = [settings("ours tiny: done"), settings("ours tiny: next")]
    measure = bench.turns.Turns.measure

    def ended(turns, of, profile=None):
        if of.name == "ours tiny: next":
            raise SystemExit(143)
        return measure(turns, of, profile)

    monkeypatch.setattr(bench.turns.Turns, "measure", ended)
    with pytest.raises(SystemExit, match="143"):
        run(bench, monkeypatch, contenders, tmp_path, capsys)
    assert "| ours tiny: done |" in capsys.readouterr().out
    assert [json.loads(line)["event"] for line in (tmp_path / "out.jsonl").open()] == ["run", "result"]


def test_losses_that_are_not_finite_are_said_of_everyone(bench, settings):
    contenders = [settings("T5X", who="t5x"), settings("failed")]
    results = {"T5X": {"losses": [10.0, "nan"], "target_tokens": 100}, "failed": {"error": "x"}}
    assert bench.table.loss_differences(contenders, results) == ["LOSSES: T5X: 10.0000, nan are not finite."]


def test_who_is_not_ready_in_time_is_left_out(bench, settings):
    contenders = [settings("slow", network={"prepare_sleep": 600}), settings("behind it")]
    said = []
    with bench.turns.Turns(contenders, made_up_child(bench), jobs=1, prepare_seconds=0.5) as turns:
        turns.prepare(said.append)
        results = [turns.measure(of) for of in contenders]
    late = "not ready within --prepare_seconds=0.5"
    assert results == [{"error": late}] * 2
    assert said == [f"slow: {late}", f"behind it: {late}"]


def test_whose_turn_takes_too_long_is_ended(bench, settings):
    contenders = [settings("hangs", network={"train_sleep": 600}), settings("next")]
    with bench.turns.Turns(contenders, made_up_child(bench), jobs=2, turn_seconds=3) as turns:
        turns.prepare(lambda line: None)
        results = [turns.measure(of) for of in contenders]
    assert results[0]["error"] == "not done within --turn_seconds=3"
    assert "error" not in results[1]


def test_all_are_ready_before_the_first_turn(bench, settings):
    contenders = [settings("quick"), settings("slow", network={"prepare_sleep": 0.5})]
    said = []
    with bench.turns.Turns(contenders, made_up_child(bench), jobs=2) as turns:
        turns.prepare(said.append)
        assert sorted(line.partition(":")[0] for line in said) == ["quick", "slow"]
        assert [turns.measure(of)["compile_seconds"] for of in contenders] == [1.5, 1.5]


def test_contenders_share_a_device_and_take_nothing_that_was_compiled_before(bench):
    made = bench.turns.environment(base={"JAX_COMPILATION_CACHE_DIR": "/cache", "CUDA_VISIBLE_DEVICES": "3"})
    assert made == {"CUDA_VISIBLE_DEVICES": "3", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Event:
    def __init__(self, name, start_ns, duration_ns, **stats):
        self.name, self.start_ns, self.duration_ns, self.stats = (
            name,
            start_ns,
            duration_ns,
            list(stats.items()),
        )


def plane(name, **lines):
    return argparse.Namespace(
        name=name,
        lines=[
            argparse.Namespace(name=line.replace("_", " "), events=events) for line, events in lines.items()
        ],
    )


def test_kernels_are_those_of_a_gpus_streams(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import accelerator_kernels

    kernels = [Event("gemm", 0, 2e6), Event("gemm", 3e6, 4e6), Event("softmax", 8e6, 3e6)]
    planes = [
        plane("/host:CPU", python=[Event("call", 0, 9e9, hlo_op="call")]),
        plane("/device:GPU:0", Stream_13=kernels, XLA_Modules=[Event("step", 0, 9e9)]),
    ]
    found = accelerator_kernels.summary(planes, 3, "folder")
    assert found["where"] == "/device:GPU:0, Stream"
    assert found["total_ms"] == pytest.approx(3.0)
    assert found["kernels"] == [
        {"ms": pytest.approx(2.0), "calls": pytest.approx(2 / 3), "name": "gemm"},
        {"ms": pytest.approx(1.0), "calls": pytest.approx(1 / 3), "name": "softmax"},
    ]


def test_what_a_loop_runs_is_not_counted_with_the_loop_again(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import accelerator_kernels

    events = [
        Event("while", 0, 10e6, hlo_op="while"),
        Event("dot", 1e6, 4e6, hlo_op="dot"),
        Event("part of it", 2e6, 1e6, hlo_op="part"),
        Event("dot", 6e6, 3e6, hlo_op="dot"),
        Event("not the device's", 0, 99e6),
        Event("dot", 10e6, 1e6, hlo_op="dot"),
    ]
    found = accelerator_kernels.summary([plane("/host:CPU", worker=events)], 1, "folder")
    times = {kernel["name"]: kernel["ms"] for kernel in found["kernels"]}
    assert times == {"while": pytest.approx(3.0), "dot": pytest.approx(7.0), "part of it": pytest.approx(1.0)}
    assert found["total_ms"] == pytest.approx(11.0)


def test_a_trace_without_kernels_says_what_it_holds(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCH))
    import accelerator_kernels

    with pytest.raises(
        ValueError, match=r"folder: no kernels among what was traced \(/device:GPU:0: Steps\)"
    ):
        accelerator_kernels.summary([plane("/device:GPU:0", Steps=[])], 1, "folder")
    with pytest.raises(ValueError, match="the profiler wrote no"):
        accelerator_kernels.table(str(tmp_path), 1)


def test_a_steps_operations_are_those_counted_by_hand(bench):
    """One layer's products by hand: projections, scores and values, the gated feed-forward block, the logits; 3 times forward."""
    size = bench.contender.SIZES["tiny"]
    d, heads, layers, kv, ff, vocab = (
        size[n] for n in ("emb_dim", "num_heads", "num_layers", "head_dim", "mlp_dim", "vocab_size")
    )
    rows, inputs, targets = 3, 40, 24
    projections = 4 * d * heads * kv  # query, key, value, output

    def attended(queries, keys):
        return 2 * queries * keys * heads * kv  # scores, and values summed up

    encoder = inputs * (projections + 3 * d * ff) + attended(inputs, inputs)
    decoder = targets * (projections + projections // 2 + 3 * d * ff) + inputs * projections // 2
    decoder += attended(targets, targets) + attended(targets, inputs)
    multiply_adds = rows * (layers * (encoder + decoder) + targets * d * vocab)
    counted = bench.accelerator.accelerator_costs.flops("tiny", rows, inputs, targets)
    # Position biases are looked up by a small product.
    assert 0 <= counted / (3 * 2 * multiply_adds) - 1 < 1e-3


def test_mfu_is_of_the_mean_batch_and_unknown_on_unknown_devices(bench):
    costs = bench.accelerator.accelerator_costs
    one, two = costs.flops("tiny", 2, 8, 4), costs.flops("tiny", 2, 16, 4)
    batches = [[(2, 8, 4), (2, 16, 4)], [(2, 8, 4)]]
    assert costs.mfu("NVIDIA A100-SXM4-80GB", "tiny", batches, 0.5) == pytest.approx(
        (2 * one + two) / 2 / 0.5 / 312e12
    )
    assert costs.mfu("cpu", "tiny", batches, 0.5) is None
