"""A sweep's folder becomes tables, figures and a page that say the same whatever order the runs finished in."""

import csv
import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import quote

import pytest
from small_sweep import NUM_ROWS, make_sweep, make_sweep_run

from stepdistill_jax import cli
from stepdistill_jax.report import write_sweep_report
from stepdistill_jax.report.sweep.comparisons import compare_groups
from stepdistill_jax.report.sweep.folder import failure_file, read_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    folder = make_sweep(
        tmp_path_factory.mktemp("sweep") / "small", methods=["fine_tuning", "step_by_step", "few_shot_cot"]
    )
    write_sweep_report(folder)
    return folder


def table(sweep: Path, name: str) -> list[dict[str, str]]:
    with (sweep / "report" / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_run_is_in_the_table_with_counts_and_interval(sweep):
    rows = table(sweep, "runs")
    assert len(rows) == 2 * 2 * 2 * 2 + 1
    for row in rows:
        result = json.loads((sweep / "runs" / row["run_id"] / "result.json").read_text())
        assert int(row["test_num_correct"]) == result["test"]["num_correct"]
        assert float(row["test_low"]) < float(row["test_percent"]) < float(row["test_high"])


def test_methods_are_averaged_over_seeds(sweep):
    runs, groups = table(sweep, "runs"), table(sweep, "methods")
    assert len(groups) == 2 * 2 * 2 + 1
    for group in groups:
        same = ("dataset", "method", "size", "train_share")
        percents = [
            float(run["test_percent"]) for run in runs if all(run[name] == group[name] for name in same)
        ]
        assert len(percents) == int(group["num_seeds"])
        assert float(group["test_mean_percent"]) == pytest.approx(sum(percents) / len(percents))
        if len(percents) == 2:
            assert float(group["standard_error_over_seeds"]) == pytest.approx(
                abs(percents[0] - percents[1]) / 2
            )


def test_every_table_is_there_as_markdown_csv_and_latex(sweep):
    names = {path.name for path in (sweep / "report" / "tables").iterdir()}
    tables = ("runs", "methods", "comparisons", "least", "costs", "rationales")
    assert names == {f"{name}.{ending}" for name in tables for ending in ("md", "csv", "tex")}


def test_costs_stand_beside_accuracy(sweep):
    costs = {(row["method"], row["size"], row["train_share"]): row for row in table(sweep, "costs")}
    row = costs["step_by_step", "mini", "1.0"]
    assert int(row["parameters"]) == 21_000_000
    assert float(row["training_flops"]) == 6.0 * 21e6 * 1e6
    assert float(row["wall_seconds"]) == 100.5
    assert not any(method == "few_shot_cot" for method, _, _ in costs)


def test_the_least_that_beats_the_teacher_is_a_run_above_it(sweep):
    methods = {(row["method"], row["size"], row["train_share"]): row for row in table(sweep, "methods")}
    teacher = float(methods["few_shot_cot", "", ""]["test_mean_percent"])
    for row in table(sweep, "least"):
        assert float(row["teacher_percent"]) == teacher
        if row["test_mean_percent"]:
            assert float(row["test_mean_percent"]) > teacher
    winners = [row for row in methods.values() if row["size"] and float(row["test_mean_percent"]) > teacher]
    assert any(row["test_mean_percent"] for row in table(sweep, "least")) == bool(winners)


def test_the_papers_figures_are_drawn_with_baseline_and_teacher(sweep):
    figures = sweep / "report" / "figures"
    for name in (
        "svamp-accuracy-share-tiny",
        "svamp-accuracy-share-mini",
        "svamp-accuracy-size",
        "svamp-least",
    ):
        assert (figures / f"{name}.png").stat().st_size > 10_000
        assert ElementTree.parse(figures / f"{name}.svg").getroot().tag.endswith("}svg")
    page = (sweep / "report" / "index.html").read_text(encoding="utf-8")
    assert re.search(
        r'aria-label="Accuracy against share of data, svamp · tiny\. .*fine-tuning, all data at \d', page
    )
    assert "few-shot CoT (palm-540b) at" in page


def test_captions_say_command_version_and_n(sweep):
    page = (sweep / "report" / "index.html").read_text(encoding="utf-8")
    assert "Drawn by <code>stepdistill report .</code> in the folder small (stepdistill-jax" in page
    assert "from runs of 0.1.0" in page
    assert f"n = 2 seeds a point, {NUM_ROWS} test rows; bars: ± one standard error over seeds" in page


def test_every_number_links_to_its_run_and_every_link_leads_to_a_file(sweep):
    page = (sweep / "report" / "index.html").read_text(encoding="utf-8")
    addresses = set(re.findall(r'href="([^"#][^"]*)"', page)) - {"data:,"}
    for address in addresses:
        assert (sweep / "report" / address).resolve().is_file(), address
    runs = {path.name for path in (sweep / "runs").iterdir()}
    assert {address.split("/")[2] for address in addresses if address.startswith("../runs/")} == runs
    assert "http" not in page


def test_a_link_leads_to_a_run_whose_name_an_address_reads_otherwise(tmp_path):
    run = make_sweep_run(tmp_path, method="fine_tuning")
    named = run.rename(run.with_name("50% of #1 a?b"))
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert f'href="../runs/{quote(named.name)}/result.json"' in page
    assert f'href="../runs/{quote(named.name)}/test_eval/predictions/' in page


def test_differences_below_the_noise_are_said_to_be_so(tmp_path):
    half = [i % 2 == 0 for i in range(200)]
    slightly = [i % 2 == 0 or i == 1 for i in range(200)]
    make_sweep_run(tmp_path, method="fine_tuning", correct=half)
    make_sweep_run(tmp_path, method="step_by_step", correct=slightly)
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert (
        "step-by-step is 0.5 points above fine-tuning (standard error 0.5, p = 1.0000): below the noise"
        in page
    )
    assert "svamp: 200 test rows" in page
    assert "one run&#39;s 50.0 % stands for 43.1 to 56.9 % (Wilson&#39;s 95 % interval)" in page


def test_answers_that_are_not_those_of_the_result_are_not_compared(tmp_path):
    make_sweep_run(tmp_path, method="fine_tuning", correct=[True] * 6 + [False] * 4)
    run = make_sweep_run(tmp_path, method="step_by_step", correct=[True] * 8 + [False] * 2)
    result = json.loads((run / "result.json").read_text())
    result["test"]["num_correct"] = 7
    (run / "result.json").write_text(json.dumps(result))
    (comparison,) = compare_groups(read_sweep(tmp_path))
    assert comparison.p_value is None
    assert comparison.points == pytest.approx(10.0)
    assert "8 of 10 right, result.json 7 of 10" in write_sweep_report(tmp_path).read_text(encoding="utf-8")


def test_runs_finished_in_another_order_give_the_same_bytes(sweep, tmp_path):
    copy = tmp_path / sweep.name
    for run in sorted((sweep / "runs").iterdir(), reverse=True):
        shutil.copytree(run, copy / "runs" / run.name)
    shutil.copy(sweep / "experiment.toml", copy)
    for place, file in enumerate(sorted(copy.rglob("result.json"))):
        os.utime(file, (place, place))
    write_sweep_report(copy)
    files = {path.relative_to(sweep): path for path in (sweep / "report").rglob("*") if path.is_file()}
    assert files.keys() == {path.relative_to(copy) for path in (copy / "report").rglob("*") if path.is_file()}
    for name, path in files.items():
        assert path.read_bytes() == (copy / name).read_bytes(), name


def test_an_unfinished_run_is_named_and_in_no_table(tmp_path):
    make_sweep_run(tmp_path, method="fine_tuning")
    (make_sweep_run(tmp_path, method="step_by_step") / "result.json").unlink()
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert "not finished, and in no table: svamp-step_by_step-tiny-s1.00-l1-seed0" in page
    assert len(table(tmp_path, "runs")) == 1


def test_a_failed_run_is_named_with_its_last_line_and_its_log(tmp_path):
    done = make_sweep_run(tmp_path, method="fine_tuning")
    (make_sweep_run(tmp_path, method="step_by_step") / "result.json").unlink()
    failed = "svamp-step_by_step-tiny-s1.00-l1-seed0"
    for run_id in (failed, "svamp-without-a-folder", done.name):
        failure_file(tmp_path, run_id).parent.mkdir(exist_ok=True)
        failure_file(tmp_path, run_id).write_text("error: disk full\n")
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    for run_id in (failed, "svamp-without-a-folder"):
        assert f"failed, and in no table: {run_id}: error: disk full (whole log: logs/{run_id}.log)" in page
    assert "not finished" not in page
    assert page.count("failed, and") == 2


def test_a_sweep_whose_runs_all_failed_says_where_the_logs_are(tmp_path):
    (make_sweep_run(tmp_path, method="fine_tuning") / "result.json").unlink()
    failure_file(tmp_path, "svamp-fine_tuning").parent.mkdir()
    failure_file(tmp_path, "svamp-fine_tuning").write_text("error: disk full\n")
    with pytest.raises(FileNotFoundError, match=r"result.json in it \(1 failed: \S+/logs says why\)"):
        read_sweep(tmp_path)


def test_the_page_has_the_title_of_the_experiment_file(tmp_path):
    make_sweep_run(tmp_path, method="fine_tuning")
    assert f"<h1>Sweep {tmp_path.name}</h1>" in write_sweep_report(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "experiment.toml").write_text('title = "Rationales <or> none"\n')
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert "<h1>Rationales &lt;or&gt; none</h1>" in page
    assert 'href="#noise"' in page


def test_curves_tell_settings_of_one_method_apart_and_show_rationales_losses(tmp_path):
    for weight in (0.3, 1.0):
        run = make_sweep_run(tmp_path, method="step_by_step", weight=weight)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows = [row | ({"rationale_loss": 2.0 * weight} if row["split"] == "train" else {}) for row in rows]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert "step-by-step, λ 0.3: 0.6 at step 400; step-by-step: 2 at step 400" in page
    assert (tmp_path / "report" / "figures" / "svamp-tiny-rationale_loss.png").is_file()


def test_lambda_is_an_axis_of_its_own(tmp_path):
    for weight in (0.5, 1.0, 2.0):
        make_sweep_run(tmp_path, method="step_by_step", weight=weight)
    make_sweep_run(tmp_path, method="fine_tuning")
    write_sweep_report(tmp_path)
    assert (tmp_path / "report" / "figures" / "svamp-accuracy-rationale_weight-tiny.svg").is_file()
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert re.search(
        r"Accuracy against λ, svamp · tiny\. step-by-step: [\d.]+ at 0.5, [\d.]+ at 1, [\d.]+ at 2; fine-tuning at",
        page,
    )
    labels = {row["a"] for row in table(tmp_path, "comparisons")}
    assert labels == {"step-by-step, λ 0.5", "step-by-step", "step-by-step, λ 2"}


def test_only_groups_that_differ_in_one_thing_are_compared(tmp_path):
    for method in ("task_distillation", "step_by_step", "few_shot_cot"):
        make_sweep_run(tmp_path, method=method)
    make_sweep_run(tmp_path, method="step_by_step", size="mini")
    pairs = {(each.a.label, each.b.label, each.where) for each in compare_groups(read_sweep(tmp_path))}
    teacher = "few-shot CoT (palm-540b)"
    assert pairs == {
        ("step-by-step", "standard distillation", "size tiny"),
        ("standard distillation", teacher, "size tiny"),
        ("step-by-step", teacher, "size tiny"),
        ("step-by-step", teacher, "size mini"),
    }


def test_rationales_that_infer_wrote_are_read(tmp_path):
    run = make_sweep_run(tmp_path, method="step_by_step", correct=[True, True])
    (run / "test_eval" / "predictions" / "svamp_rationale-test-400.jsonl").unlink()
    (run / "inferences" / "test").mkdir(parents=True)
    line = {
        "example_id": "svamp/test/0",
        "inputs": {"targets_pretokenized": "So she has 5."},
        "prediction": "So 5.",
    }
    path = run / "inferences" / "test" / "svamp_rationale-predict.jsonl-00000-of-00001"
    path.write_text(json.dumps(line) + "\n")
    assert read_sweep(tmp_path).runs[0].rationales == {"svamp/test/0": ("So 5.", "So she has 5.")}


def test_step_by_step_with_less_data_is_compared_with_the_baseline_with_all(tmp_path):
    make_sweep_run(tmp_path, method="step_by_step", share=0.25)
    make_sweep_run(tmp_path, method="fine_tuning", share=0.25)
    make_sweep_run(tmp_path, method="fine_tuning", share=1.0)
    pairs = {
        (each.a.method, each.a.share, each.b.method, each.b.share, each.where)
        for each in compare_groups(read_sweep(tmp_path))
    }
    assert pairs == {
        ("step_by_step", 0.25, "fine_tuning", 0.25, "25 % of the data"),
        ("step_by_step", 0.25, "fine_tuning", 1.0, "25 % of the data against all"),
    }


PUBLISHED = "dataset,method,teacher,size,parameters,train_share,percent,source\n"


def test_published_numbers_are_drawn_beside_their_own_method_and_teacher(tmp_path):
    for share in (0.5, 1.0):
        run = make_sweep_run(tmp_path, method="step_by_step", share=share)
    teacher = json.loads((run / "result.json").read_text())["run"]["teacher"]
    (tmp_path / "published.csv").write_text(
        f"{PUBLISHED}svamp,step_by_step,{teacher},tiny,220e6,1.0,50.0,Someone 2020 Table 9\n"
        "svamp,step_by_step,another,tiny,220e6,1.0,51.0,Someone 2021\n"
        "svamp,fine_tuning,,tiny,220e6,1.0,52.0,Someone 2022\n"
    )
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert "step-by-step (Someone 2020 Table 9): 50 at 100" in page
    assert "; crosses: Someone 2020 Table 9." in page
    assert "Someone 2021" not in page  # of another teacher
    assert "Someone 2022" not in page  # of a method that the figure has not


def test_a_published_number_without_a_source_is_refused(tmp_path):
    make_sweep_run(tmp_path, method="fine_tuning")
    (tmp_path / "published.csv").write_text(f"{PUBLISHED}svamp,step_by_step,palm,tiny,220e6,1.0,50.0,\n")
    with pytest.raises(ValueError, match=r"published\.csv:2: no source"):
        write_sweep_report(tmp_path)


def test_two_students_of_one_size_are_two_lines(tmp_path):
    for size in ("tiny", "tiny-longer", "mini"):
        make_sweep_run(tmp_path, method="fine_tuning", size=size)
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert re.search(
        r"fine-tuning: [\d.]+ at 1\.4e\+06, [\d.]+ at 2\.1e\+07; fine-tuning, tiny-longer: [\d.]+ at 1\.4e\+06",
        page,
    )


def test_published_numbers_stand_beside_the_same_method_where_methods_are_compared(tmp_path):
    make_sweep_run(tmp_path, method="step_by_step")
    make_sweep_run(tmp_path, method="fine_tuning")
    (tmp_path / "published.csv").write_text(
        f"{PUBLISHED}svamp,fine_tuning,,tiny,220e6,1.0,50.0,Someone 2020 Table 9\n"
        "svamp,fine_tuning,,huge,11e9,1.0,60.0,Someone 2021\n"
    )
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert "; fine-tuning (Someone 2020 Table 9): 50" in page
    assert "Someone 2021" not in page


def test_a_model_cannot_put_tags_into_the_page(sweep):
    page = (sweep / "report" / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;apples&lt;/b&gt;" in page
    assert "<b>" not in page


def test_report_finds_out_that_a_folder_is_a_sweep(tmp_path, capsys):
    make_sweep_run(tmp_path, method="fine_tuning")
    assert cli.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path.resolve() / "report" / "index.html")
    assert cli.main(["report", str(tmp_path), "--output", str(tmp_path / "other")]) == 2
    assert "is a sweep's folder" in capsys.readouterr().err


def test_a_broken_result_is_named(tmp_path):
    run = make_sweep_run(tmp_path, method="fine_tuning")
    (run / "result.json").write_text('{"run": {"dataset": "svamp"}}')
    with pytest.raises(ValueError, match=r"seed0/result\.json: not a sweep's result .*method"):
        write_sweep_report(tmp_path)
    (run / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match="has finished a run"):
        write_sweep_report(tmp_path)


def test_a_copied_run_is_no_other_seed(tmp_path):
    folder = make_sweep(tmp_path / "small", methods=["fine_tuning"], shares=[1.0], sizes=["tiny"])
    first = folder / "runs" / "svamp-fine_tuning-tiny-s1.00-l1-seed0"
    shutil.copytree(first, folder / "runs" / "svamp-fine_tuning-tiny-s1.00-l1-seed2")
    with pytest.raises(ValueError, match=r"seed0 and .*seed2 have the same settings and seed") as error:
        read_sweep(folder)
    assert "\n" not in str(error.value)
