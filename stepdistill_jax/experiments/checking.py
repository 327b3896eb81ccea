"""Whether an experiment can run, found out without data, weights or accelerators."""

from collections.abc import Iterator, Sequence

from stepdistill_jax.base import quiet
from stepdistill_jax.experiments.experiment_file import Experiment
from stepdistill_jax.experiments.planned_run import PlannedRun, planned_runs


def check(experiment: Experiment) -> Iterator[str]:
    """Reads every run's gin files and bindings, and builds every student in shape only; gives a line for each student.

    Runs that differ in seed, share or λ alone are read once.

    Raises:
      ValueError: one line that names the run and what is wrong with it.
    """
    runs = planned_runs(experiment)
    parameters: dict[tuple[object, ...], int] = {}
    for run in {_kind(run): run for run in runs if run.method.is_trained}.values():
        try:
            _check_names(run)
            size = (run.gin_files, run.student.gin)
            build = size not in parameters
            count = _read(run, build=build)
        except ValueError as error:
            raise ValueError(f"{experiment.path}: {run.run_id}: {error}") from error
        if build:
            parameters[size] = count
            same = sum((r.gin_files, r.student.gin) == size for r in runs if r.student)
            yield f"{run.student.name}: {', '.join(run.gin_files)}: {count / 1e6:,.1f} M parameters, {same} runs"
    asked = sum(not run.method.is_trained for run in runs)
    if asked:
        yield f"{asked} runs ask a teacher, and train nothing"


def _kind(run: PlannedRun) -> tuple[object, ...]:
    """What runs that differ in numbers alone have in common."""
    return (
        run.dataset, run.method, run.teacher, run.student.name, run.pairing, run.prefixes, run.augmentation,
    )  # fmt: skip


def _check_names(run: PlannedRun) -> None:
    quiet.import_tensorflow()
    import seqio

    from stepdistill_jax.base.messages import nearest

    name = f"{run.dataset}_{run.method.task_ending}"
    known: Sequence[str] = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    if name not in known:
        raise ValueError(f"no task or mixture '{name}'{nearest(name, known)}.")


def _read(run: PlannedRun, *, build: bool) -> int:
    """Reads the configuration; with `build` also makes the model, and returns its number of parameters."""
    from stepdistill_jax.engine import precompile
    from stepdistill_jax.engine.step.initialize import abstract_train_state, num_parameters
    from stepdistill_jax.launching import launch

    launch.read_config(run.gin_files, [*run.gin_bindings(), "MODEL_DIR = 'run'"])
    if not build:
        return 0
    import gin

    configured = launch.configured(precompile.bindings_of_train, gin)
    shapes, types = precompile.batch_shapes(configured["model"], configured["train_dataset_cfg"])
    # What a step is made of does not depend on the number of rows.
    shapes = {name: (1, length) for name, (_, length) in shapes.items()}
    return num_parameters(abstract_train_state(configured["model"], shapes, types))
