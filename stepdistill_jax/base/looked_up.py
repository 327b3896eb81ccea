"""Class attributes that are imported when they are asked for."""

import importlib
from typing import Any


class LookedUp:
    """Stands for the class `module.name` as a class attribute: what it costs to import is paid by who uses it.

    An instance has the class itself, and may be given another. The class attribute is this stand-in, as gin and others look
    at all attributes of a class: it is called, asked for attributes and inherited from like the class.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _found(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else self._found()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # who looks for Python's own names looks at this object
        return getattr(self._found(), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._found(),)

    def __repr__(self) -> str:
        return f"<{self._module}.{self._name}, not imported yet>"
