"""A tokenizer.json gives its library's ids, but for the two that are swapped; no text yields a special token."""

import pytest
import tokenizers
from small_vocabulary import END, START, write_tokenizer

from stepdistill_jax.base.vocabularies.tokenizer_files import TokenizerFile

TEXTS = ("", " ", "how many apples!", "Größe: 5 µm, 猫 😀\r\n\tx", "two  blanks ", "\x00")


@pytest.fixture(params=[True, False], ids=["start is 0", "start is last"])
def file(request, tmp_path):
    return write_tokenizer(tmp_path / "tokenizer.json", special_first=request.param)


def test_ids_are_the_library_s_but_for_two(file):
    theirs = tokenizers.Tokenizer.from_file(str(file))
    ours = TokenizerFile(str(file), START, END)
    start = theirs.token_to_id(START)
    swapped = {0: start, start: 0}
    for text in TEXTS:
        ids = theirs.encode(text).ids
        assert ours.encode(text) == [swapped.get(i, i) for i in ids]
        assert ours.decode(ours.encode(text)) == text
    assert ours.encode_all(TEXTS) == [ours.encode(text) for text in TEXTS]
    assert ours.vocab_size == theirs.get_vocab_size()
    assert ours.unk_id is None


def test_what_pads_and_begins_is_id_0_and_no_text_has_it(file):
    ours = TokenizerFile(str(file), START, END)
    assert ours.pieces()[0] == START
    assert ours.pieces()[ours.eos_id] == END
    for text in (START, f"a{END}", "!", "<|im_start|>"):
        ids = ours.encode(text)
        assert len(ids) > len(text) / 2
        assert not {0, ours.eos_id} & set(ids)
        assert ours.decode(ids) == text


def test_what_a_text_ends_with_is_never_read_from_a_text_even_where_the_file_does_not_call_it_special(
    tmp_path,
):
    file = write_tokenizer(tmp_path / "tokenizer.json")
    plain = tokenizers.Tokenizer.from_file(str(file))
    plain.add_tokens(["<end>"])
    plain.save(str(file))
    ours = TokenizerFile(str(file), START, "<end>")
    assert ours.eos_id not in ours.encode("a <end> b")
    assert ours.decode([*ours.encode("a"), ours.eos_id, *ours.encode("b")]) == "a"


def test_reading_stops_at_the_end_and_leaves_out_what_is_no_text(file):
    ours = TokenizerFile(str(file), START, END)
    apples = ours.encode("apples")
    assert ours.decode([0, *apples, 0, 100_000, -1, ours.eos_id, *apples]) == "apples"


def test_a_file_that_is_not_there_or_damaged_is_one_line(file, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"is not at .*nowhere\.json; set datasets\.vocabulary_choice\.file"
    ):
        TokenizerFile(str(tmp_path / "nowhere.json"), START, END)
    file.write_text(file.read_text()[:1000])
    with pytest.raises(
        ValueError, match=r"tokenizer\.json is no tokenizer\.json \(.*\); copy or convert it again"
    ):
        TokenizerFile(str(file), START, END)


def test_a_token_that_there_is_not_is_named_with_those_that_there_are(file):
    with pytest.raises(
        ValueError, match=r"no token '<eos>'; set .*\.end to one that it has; it has <\|endoftext\|>, "
    ):
        TokenizerFile(str(file), START, "<eos>")
    with pytest.raises(ValueError, match=r"cannot both start and end a text"):
        TokenizerFile(str(file), START, START)
