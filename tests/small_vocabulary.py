"""Small vocabularies: SentencePiece's of letters, digits and little more, as T5's, which has no braces, '<', '~', '^' or line breaks;
and a tokenizer.json of pairs of bytes, as decoder-only models have."""

import io
import string
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

START, END = "<|endoftext|>", "<|im_end|>"
_WRITTEN = string.ascii_letters + string.digits + "[]().,:?!'\"-+*/=#|>"


def write_vocabulary(path: Path) -> Path:
    """Writes the model, with T5's special ids, and returns its path."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(_WRITTEN), "the queue of a label"] * 4),
        model_writer=model,
        vocab_size=128,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return path


def write_tokenizer(path: Path, *, special_first: bool = True) -> Path:
    """Writes a tokenizer.json of some 300 pieces with the special tokens START, '<|im_start|>' and END.

    Args:
      special_first: whether START has id 0, as SmolLM2's; otherwise '!' has, and START follows the pieces, as Qwen's.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [START, "<|im_start|>", END]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=special if special_first else [],
    )
    tokenizer.train_from_iterator(
        ["the queue of a label", "how many apples are there", "no 12 + 3"] * 4, trainer
    )
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(path))
    return path
