"""A tokenizer of scored byte pairs comes out of a GGUF file with SentencePiece's own ids, or is refused in one line."""

import io
import json
import random

import pytest
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from small_gguf import write_file

from stepdistill_jax.base.vocabularies.tokenizer_files import load_tokenizer
from stepdistill_jax.interop import convert_from_gguf
from stepdistill_jax.interop.gguf_files.reading import open_gguf
from stepdistill_jax.interop.gguf_files.tokenizer import tokenizer_json

# Like Llama 2's and like Gemma's.
KINDS = {
    "with_a_blank_before_a_text": {"add_dummy_prefix": True, "allow_whitespace_only_pieces": True},
    "with_tokens_of_its_user_s": {
        "add_dummy_prefix": False,
        "split_digits": True,
        "user_defined_symbols": ["\n\n", "\n\n\n", "▁▁", "▁▁▁", "<tool>", "\t\t"],
        "control_symbols": ["<bos>", "<end_of_turn>"],
    },
}
BITS = "   a the▁012é漢字🙂ß\n\t-=\u200b\u00a0ﬁ①"
WORDS = [
    "  ",
    "\n\n\n",
    "\r\n",
    "<0x41>",
    "<s>",
    "</s>",
    "<unk>",
    "<tool>",
    "<end_of_turn>",
    "👩‍👩‍👧",
    "aba",
    "apples",
    " 12",
    "----",
]


def texts(count, seed=0):
    """Lines of odd characters, of runs, and of words with more or fewer blanks."""
    draw = random.Random(seed)
    for number in range(count):
        parts = BITS if number % 3 else [*BITS, *WORDS]
        yield "".join(draw.choices(parts, k=draw.randrange(25)))


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """(SentencePiece's model, whether it puts a blank before a text)."""
    draw = random.Random(1)
    names = [
        "Mia",
        "Sam",
        "apples",
        "pears",
        "buys",
        "sells",
        "more",
        "than",
        "how",
        "many",
        "does",
        "he",
        "she",
        "have",
        "12",
        "345",
        "ab",
        "aba",
        "abab",
        "baba",
        "aaa",
        "---",
        "===",
        "\t",
    ]
    lines = [" ".join(draw.choices(names, k=12)) + draw.choice(["", "  ", "?", "..."]) for _ in range(800)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
        **KINDS[request.param],
    )
    return model.getvalue(), KINDS[request.param]["add_dummy_prefix"]


def write_gguf(path, trained, edit=lambda pieces: None, **fields):
    """A GGUF file with SentencePiece's pieces, as llama.cpp's converter writes them: user's tokens with blanks as they are."""
    content, prefix = trained
    pieces = list(sentencepiece_model_pb2.ModelProto.FromString(content).pieces)
    edit(pieces)

    def replace(writer):
        for name in ("model", "pre", "tokens", "token_type", "merges", "eos_token_id"):
            writer.kv_data[0].pop(f"tokenizer.ggml.{name}", None)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([p.piece.replace("▁", " ") if p.type == 4 else p.piece for p in pieces])
        writer.add_token_types([p.type for p in pieces])
        writer.add_token_scores([p.score for p in pieces])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_space_prefix(fields.pop("prefix", prefix))
        for name, value in fields.items():
            writer.add_bool(f"tokenizer.ggml.{name}", value)

    write_file(path, edit=replace, vocab=len(pieces))
    return path


def test_2000_lines_have_sentencepiece_s_own_ids_and_read_back(trained, tmp_path):
    content = tokenizer_json(open_gguf(write_gguf(tmp_path / "model.gguf", trained)))
    ours = tokenizers.Tokenizer.from_str(json.dumps(content))
    ours.encode_special_tokens = True
    theirs = sentencepiece.SentencePieceProcessor(model_proto=trained[0])
    lines = list(texts(2000))
    assert [ours.encode(line).ids for line in lines] == [theirs.encode(line) for line in lines]
    unspaced = [line for line in lines if "▁" not in line]
    assert [ours.decode(ours.encode(line).ids, skip_special_tokens=False) for line in unspaced] == unspaced


def test_a_file_with_one_is_converted_and_its_vocabulary_is_ours(trained, tmp_path):
    model, _ = convert_from_gguf(write_gguf(tmp_path / "model.gguf", trained), tmp_path / "ours")
    assert (model.tokens.start, model.tokens.end) == ("<bos>" if not trained[1] else "<s>", "</s>")
    words = load_tokenizer(model.vocabulary, model.tokens.start, model.tokens.end)
    line = "  Mia buys\n12 <s> apples 漢"
    assert words.decode(words.encode(line)) == line
    assert not {0, words.eos_id} & set(words.encode(line))


def same_scores(pieces):
    for piece in pieces:
        piece.score = -1000.0


def unused_pairs(pieces):
    """SentencePiece merges what is unused on, and takes it apart in the end; merges of used pieces do not get there."""
    for piece in pieces:
        piece.type = 5 if piece.type == 1 and len(piece.piece) == 2 else piece.type


def no_bytes(pieces):
    for piece in pieces:
        piece.type = 1 if piece.type == 6 else piece.type


def no_unknown(pieces):
    pieces[0].type = 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"edit": same_scores}, r"of its tokens have the score -1000, so which is merged first is not told"),
        ({"edit": unused_pairs}, r"merges in place of scores cut '.*' in another way"),
        ({"edit": no_bytes}, r"it has 0 tokens of bytes, not <0x00> to <0xFF>"),
        ({"edit": no_unknown}, r"0 of its tokens are of the type 'unknown', not 1"),
        ({"remove_extra_whitespaces": True}, r"it removes blanks"),
    ],
)
def test_what_merges_cannot_say_is_refused(trained, tmp_path, arguments, words):
    file = write_gguf(tmp_path / "model.gguf", trained, **arguments)
    with pytest.raises(
        ValueError, match=rf"model\.gguf: its tokenizer .* is not rebuilt: .*{words}"
    ) as caught:
        tokenizer_json(open_gguf(file))
    assert "\n" not in str(caught.value)
    assert "Convert the model's Hugging Face folder" in str(caught.value)


def test_a_blank_before_a_text_beside_tokens_of_the_user_s_is_refused(trained, tmp_path):
    if trained[1]:
        assert tokenizer_json(open_gguf(write_gguf(tmp_path / "model.gguf", trained)))
        return
    file = write_gguf(tmp_path / "model.gguf", trained, prefix=True)
    with pytest.raises(ValueError, match="puts a blank before a text and has tokens of its user's"):
        tokenizer_json(open_gguf(file))
