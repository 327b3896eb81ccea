import json

import pytest

from stepdistill_jax.serving.request_reading import BadRequest, read_request


def read(value):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_request(body, most_texts=3)


def test_one_text_and_many():
    assert read({"text": "Ünïcode\nand lines"}).texts == ["Ünïcode\nand lines"]
    assert read({"text": "a"}).is_one
    asked = read({"texts": ["a", "b"], "rationale": True, "abstain_below": 0.5})
    assert (asked.texts, asked.is_one, asked.rationale, asked.abstain_below) == (["a", "b"], False, True, 0.5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The body is empty"),
        (b" \n", "The body is empty"),
        (b'{"text": "a", "text": "b"}', "'text' stands twice in an object; send it once"),
        (b'{"text": "a", "abstain_below": 2, "abstain_below": 0}', "'abstain_below' stands twice"),
        (b'{"text": {"a": 1, "a": 2}}', "'a' stands twice"),
        (b'{"text": "a"', "no JSON"),
        (b"\xff\xfe", "not UTF-8 (byte 0)"),
        (b"[" * 100_000, "no JSON"),
        (b'{"text": "a", "abstain_below": NaN}', "NaN is no number"),
        (b'{"abstain_below": ' + b"9" * 5000 + b"}", "no JSON"),
        (["a"], "The body is a list"),
        ({}, "either 'text'"),
        ({"text": "a", "texts": ["a"]}, "either 'text'"),
        ({"txt": "a"}, "'txt' is no field of a request; nearest 'text'"),
        ({"text": ""}, "text is empty"),
        ({"text": " \n\t"}, "text is blank"),
        ({"text": None}, "text is a null"),
        ({"texts": "a"}, "texts is a string"),
        ({"texts": []}, "texts is empty"),
        ({"texts": ["a"] * 4}, "texts has 4 texts; send at most 3"),
        ({"texts": ["a", 7, "b"]}, "texts[1] is a number"),
        ({"texts": ["a", "b", ""]}, "texts[2] is empty"),
        (b'{"text": "\\ud800"}', "half a surrogate pair"),
        ({"text": "a", "rationale": 1}, "rationale is a number"),
        ({"text": "a", "abstain_below": 1.5}, "abstain_below must be a number from 0 to 1"),
        ({"text": "a", "abstain_below": True}, "abstain_below must be"),
    ],
)
def test_what_is_no_request_names_the_field(body, said):
    with pytest.raises(BadRequest) as refused:
        read(body)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_field_of_any_length_is_shown_in_short():
    with pytest.raises(BadRequest) as refused:
        read({"x" * 500_000: 1})
    assert len(str(refused.value)) < 200
