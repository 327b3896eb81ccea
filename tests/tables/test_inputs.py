"""Templates of a row's columns."""

import pytest

from stepdistill_jax.tables import Inputs, Row, TableError

ROW = Row(3, {"subject": "Lamp {0}", "body": "It {{flickers}}", "customer name": "Ö", "n": 7, "none": None})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{subject}", "Lamp {0}"),
        (r"{subject}\n{body}", "Lamp {0}\nIt {{flickers}}"),
        ("subject,body", "Lamp {0}\nIt {{flickers}}"),
        (["subject", "body"], "Lamp {0}\nIt {{flickers}}"),
        ("body", "It {{flickers}}"),
        ("{{{n}}} by {customer name}", "{7} by Ö"),
    ],
)
def test_values_stand_where_the_template_names_their_columns(template, text):
    assert Inputs(template).text(ROW) == text


def test_columns_and_template_are_told():
    inputs = Inputs("subject, body")
    assert (inputs.columns, inputs.template) == (("subject", "body"), "{subject}\n{body}")
    assert inputs == Inputs(r"{subject}\n{body}")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{subject", "a '{' without its other half"),
        ("a}{b}", "a '}' without"),
        ("{{x}}", "names no column"),
        ("", "names no"),
    ],
)
def test_a_template_that_cannot_be_read_is_one_line(template, said):
    with pytest.raises(TableError, match=said):
        Inputs(template)


def test_a_value_that_is_no_text_is_named_with_its_row():
    with pytest.raises(TableError, match="line 3: 'none' is null") as caught:
        Inputs("none").text(ROW)
    assert caught.value.reason == "'none' is null"
    with pytest.raises(TableError, match="line 3: there is no 'price'"):
        Inputs("price").text(ROW)


def test_a_row_of_blank_cells_has_no_text_whatever_the_template_says():
    row = Row(2, {"subject": " ", "body": "\u200b\ufeff", "n": "1"})
    assert Inputs("Question: {subject}\n{body}").text(row) == ""
    assert Inputs("Question: {subject}{n}").text(row) == "Question:  1"
