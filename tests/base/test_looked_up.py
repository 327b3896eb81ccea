"""A class attribute that is imported by who uses it."""

import inspect
import json
import sys

from stepdistill_jax.base.looked_up import LookedUp


class Owner:
    kind = LookedUp("json", "JSONDecoder")
    missing = LookedUp("no_such_module_here", "Kind")


def test_an_instance_has_the_class_and_may_have_another():
    owner = Owner()
    assert owner.kind is json.JSONDecoder
    owner.kind = dict
    assert owner.kind is dict
    assert Owner().kind is json.JSONDecoder


def test_the_class_attribute_is_called_asked_and_inherited_from_like_the_class():
    assert Owner.kind().decode("1") == 1
    assert Owner.kind.decode is json.JSONDecoder.decode

    class Own(Owner.kind):
        pass

    assert issubclass(Own, json.JSONDecoder)


def test_looking_over_a_class_imports_nothing():
    members = dict(inspect.getmembers(Owner))
    assert "missing" in members
    assert "no_such_module_here" in repr(members["missing"])
    assert "no_such_module_here" not in sys.modules
