"""From a gin file or a run's folder to a call: T5X's flags, task modules, evaluate, infer, predict."""
