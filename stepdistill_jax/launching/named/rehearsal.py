"""What a run by names would be refused for, found out of the configuration that was read: no data is read, nothing is compiled."""

import copy
from typing import Any

from stepdistill_jax.launching.named.gin_text import Plan, macros

# Macro -> the flag that says it, and what was planned by it.
_PLANNED_BY = {
    "MODEL_DIR": ("--output", "run.json"),
    "TASK_FEATURE_LENGTHS": ("--inputs_length and --targets_length", "rows and steps"),
    "BATCH_SIZE": ("--batch_size", "the steps"),
    "TRAIN_STEPS": ("--steps", "warm-up, decay and the evaluation period"),
    "EVAL_PERIOD": ("--eval_period", "the checkpoints' period"),
}


def check_planned(plan: Plan) -> None:
    """Checks that nothing given besides changes what other values were planned by.

    Raises:
      ValueError: names the macro and its flag.
    """
    import gin

    planned = macros(plan)
    for macro, (flag, others) in _PLANNED_BY.items():
        value = _made(gin.query_parameter(f"%{macro}"))
        if value != planned[macro]:
            raise ValueError(
                f"{macro} = {value!r}, but {others} would stay planned for {planned[macro]!r}; give {flag} in its place."
            )
    weight = gin.query_parameter("%RATIONALE_WEIGHT")
    if plan.settings.rationale_weight is None and weight != 1.0:
        raise ValueError(
            f"RATIONALE_WEIGHT = {weight!r}: {plan.settings.method} has no rationale task to weigh; leave it out."
        )


def rehearse() -> None:
    """Makes all that `train` is given, and traces a step.

    Raises:
      ValueError: one line, as of `train`, for settings that cannot be or do not go together.
    """
    import gin

    from stepdistill_jax.engine import precompile
    from stepdistill_jax.engine.data.task_vocabularies import verify_matching_vocabs
    from stepdistill_jax.engine.step.trainer import AUTO

    given = _made(gin.get_bindings("__main__.train", resolve_references=False))
    for name in ("train_dataset_cfg", "train_eval_dataset_cfg", "infer_eval_dataset_cfg"):
        if given.get(name) is not None:
            verify_matching_vocabs(given[name], given["model"])
    trainer, state, batch = precompile.abstract_step(
        given["model"],
        given["train_dataset_cfg"],
        given["partitioner"],
        given["trainer_cls"],
        given["random_seed"],
    )
    if trainer.num_microbatches == AUTO:  # how many there are is found by compiling
        trainer = trainer.with_microbatches(1)
    trainer.train_step.trace(state, batch)


def _made(bound: Any) -> Any:
    """With the objects and values that gin's references stand for."""
    return copy.deepcopy(bound)
