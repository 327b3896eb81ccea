"""Environment variables are put back, however what needed them ends."""

import os

import pytest

from stepdistill_jax.base.environment import set_for_a_while


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("HOUSE_SET", "before")
    monkeypatch.delenv("HOUSE_UNSET", raising=False)


def test_variables_are_set_and_put_back(tmp_path):
    with set_for_a_while(HOUSE_SET="within", HOUSE_UNSET=tmp_path):
        assert os.environ["HOUSE_SET"] == "within"
        assert os.environ["HOUSE_UNSET"] == str(tmp_path)
    assert os.environ["HOUSE_SET"] == "before"
    assert "HOUSE_UNSET" not in os.environ


def test_none_leaves_a_variable_as_it_is():
    with set_for_a_while(HOUSE_SET=None, HOUSE_UNSET=None):
        assert os.environ["HOUSE_SET"] == "before"
        assert "HOUSE_UNSET" not in os.environ
    assert os.environ["HOUSE_SET"] == "before"


def test_an_error_puts_them_back_and_goes_on():
    with (
        pytest.raises(KeyError, match="of the work"),
        set_for_a_while(HOUSE_SET="within", HOUSE_UNSET="within"),
    ):
        raise KeyError("of the work")
    assert os.environ["HOUSE_SET"] == "before"
    assert "HOUSE_UNSET" not in os.environ


def test_one_within_another_puts_back_the_others():
    with set_for_a_while(HOUSE_UNSET="outer"):
        with set_for_a_while(HOUSE_UNSET="inner"):
            assert os.environ["HOUSE_UNSET"] == "inner"
        assert os.environ["HOUSE_UNSET"] == "outer"
    assert "HOUSE_UNSET" not in os.environ


def test_what_was_deleted_within_is_no_error():
    with set_for_a_while(HOUSE_SET="within", HOUSE_UNSET="within"):
        del os.environ["HOUSE_SET"], os.environ["HOUSE_UNSET"]
    assert os.environ["HOUSE_SET"] == "before"
