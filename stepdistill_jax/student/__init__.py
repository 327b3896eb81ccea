"""The method: task ids on target tokens, the loss of Eq. 3, and the model that learns with it.

Written against T5X's public API (`from t5x import models`), so that it runs on T5X itself or, through the import alias
that our launchers install (`stepdistill_jax.engine.t5x_names.alias`), on our engine.
"""
