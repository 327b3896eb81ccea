"""The name `t5x` for our engine, and T5X's modules that gather what lies in several rooms here."""
