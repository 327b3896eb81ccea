"""Actions stop a run when T5X's would; what they cannot see, they say once and leave alone."""

import clu.values
import pytest

from stepdistill_jax.base import messages
from stepdistill_jax.engine.loop import actions
from stepdistill_jax.engine.loop.actions import EarlyStoppingAction, RunActions, TerminateOnNanAction
from stepdistill_jax.engine.model import metrics


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(messages, "_said", set())


def looks(action, values, metric="accuracy"):
    """What the action says to each value in turn."""
    return [action.run(None, {"task": {metric: value}}) for value in values]


def test_a_metric_that_keeps_improving_does_not_stop():
    assert not any(looks(EarlyStoppingAction(("task", "accuracy"), "max"), [1.0, 2.0, 3.0, 4.0]))
    assert not any(looks(EarlyStoppingAction(("task", "accuracy"), "min"), [4.0, 3.0, 2.0, 1.0]))


@pytest.mark.parametrize(("mode", "values"), [("min", [1.0, 1.1, 1.2]), ("max", [3.0, 2.0, 2.0])])
def test_patience_looks_without_improvement_stop(mode, values):
    assert looks(EarlyStoppingAction(("task", "accuracy"), mode, patience=3), values) == [False, False, True]


def test_one_improvement_among_them_starts_patience_anew():
    said = looks(EarlyStoppingAction(("task", "accuracy"), "max", patience=3), [3, 2, 4, 4, 4])
    assert said == [False, False, False, False, True]


def test_the_first_look_stops_nothing_however_small_the_patience():
    assert looks(EarlyStoppingAction(("task", "accuracy"), "max", patience=1), [3.0, 4.0, 4.0]) == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("tolerance", [{"atol": 0.5}, {"rtol": 0.5}])
def test_a_change_within_the_tolerance_is_no_improvement(tolerance):
    action = EarlyStoppingAction(("task", "accuracy"), "max", patience=2, **tolerance)
    assert looks(action, [1.0, 1.5]) == [False, True]
    action = EarlyStoppingAction(("task", "accuracy"), "max", patience=2, **tolerance)
    assert looks(action, [1.0, 1.51]) == [False, False]


@pytest.mark.parametrize(
    "bad", [{"mode": "most"}, {"mode": "min", "atol": -1.0}, {"mode": "min", "rtol": -0.1}]
)
def test_a_setting_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match=r"EarlyStoppingAction\.(mode|atol)="):
        EarlyStoppingAction(("task", "loss"), **bad)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), clu.values.Scalar(float("nan"))])
def test_a_loss_that_is_not_finite_terminates(value):
    assert looks(TerminateOnNanAction("task"), [1.0, value], metric="loss") == [False, True]


def test_an_unknown_task_or_metric_is_named_once_with_the_nearest(capsys):
    action = TerminateOnNanAction("svamp_lable")
    for _ in range(2):
        assert not action.run(None, {"svamp_label": {"loss": float("nan")}})
    assert capsys.readouterr().err.count("no metrics of a task 'svamp_lable'; nearest 'svamp_label'") == 1
    assert not TerminateOnNanAction("svamp_label", "los").run(None, {"svamp_label": {"loss": 1.0}})
    assert "'svamp_label' has no metric 'los'; nearest 'loss'" in capsys.readouterr().err


def test_an_unknown_mode_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"mode 'EVAL_TRAIN'; nearest 'TRAIN'"):
        RunActions({"EVAL_TRAIN": []})


class Seen(actions.BaseAction):
    def __init__(self, stop=False):
        self.metrics, self.stop = [], stop

    def run(self, train_state, metrics_by_task):
        self.metrics.append(metrics_by_task)
        return self.stop


def test_every_action_of_a_mode_runs_and_one_is_enough_to_stop():
    first, second, other = Seen(stop=True), Seen(), Seen()
    run = RunActions({"TRAIN_EVAL": [first, second], "INFER_EVAL": [other]})
    assert run.run(actions.ActionMode.TRAIN_EVAL, None, {"task": {"loss": 1.0}})
    assert (len(first.metrics), len(second.metrics), len(other.metrics)) == (1, 1, 0)


def test_actions_of_training_see_the_mean_over_their_period():
    seen = Seen()
    run = RunActions({"TRAIN": [seen]}, train_period=2)
    for step, loss in enumerate([1.0, 3.0, 5.0, 7.0], start=1):
        run.after_step(
            step, None, {"loss": metrics.AveragePerStep.from_model_output(loss), "seconds": metrics.Time()}
        )
    assert seen.metrics == [{"train": {"loss": 2.0}}, {"train": {"loss": 6.0}}]
