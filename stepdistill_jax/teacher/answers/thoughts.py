"""A reasoning model's thoughts, and the answer of its own behind them.

Servers without a reasoning parser send both in one text, with the tags of the model's chat template around the thoughts. Where the template
itself opens the tag, the text has the closing one alone; where the budget of tokens ended in the thoughts, it has the opening one alone.
"""

import re
from dataclasses import dataclass

from stepdistill_jax.teacher.answers.requests import Answer

# Opening and closing tags, with models that write them.
_TAGS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, QwQ, GLM, Nemotron, MiniMax
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reason>", "</reason>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<analysis>", "</analysis>"),
    ("<inner_monologue>", "</inner_monologue>"),
    ("<cot>", "</cot>"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<|think|>", "<|/think|>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
)
_OPENING = {opening.casefold() for opening, _ in _TAGS}
# A tag may have attributes or blanks in it: <think effort="high">.
_TAG = re.compile(
    "|".join(re.sub(">$", r"(?:\\s[^<>]*)?>", re.escape(tag)) for pair in _TAGS for tag in pair),
    re.IGNORECASE,
)
# What some of them put around the answer itself.
_WRAPPERS = re.compile(
    r"</?answer>|<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>|<\|(?:im_end|end|return|eot_id|endoftext)\|>|</s>|<end_of_turn>"
)
# gpt-oss: channels of messages, with their special tokens, or without where the server leaves these out.
_CHANNEL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>(\w+)[^<]*<\|message\|>")
_BARE_CHANNELS = re.compile(r"analysis(?P<thoughts>.+?)assistantfinal(?P<text>.*)", re.DOTALL)
_FINAL = "final"
_SENTENCE = re.compile(r".+?(?:[.!?][\"')\]]*(?=\s|$)|\n|$)", re.DOTALL)


@dataclass(frozen=True)
class Parts:
    """What an answer consists of; `is_open` says that the thoughts never ended."""

    thoughts: str
    text: str
    is_open: bool = False


def split_thoughts(answer: Answer) -> Parts:
    """The thoughts, wherever the server put them, and the text of the answer proper."""
    parts = _split_text(answer.text)
    thoughts = "\n".join(part for part in (answer.thoughts.strip(), parts.thoughts.strip()) if part)
    return Parts(thoughts, _WRAPPERS.sub("", parts.text).strip(), parts.is_open)


def _split_text(text: str) -> Parts:
    if _CHANNEL.match(text.lstrip()):
        return _split_channels(text)
    if bare := _BARE_CHANNELS.fullmatch(text.strip()):
        return Parts(bare["thoughts"], bare["text"])
    thoughts, own, begin, inside = [], [], 0, False
    for tag in _TAG.finditer(text):
        opens = re.sub(r"\s[^<>]*>$", ">", tag[0].casefold()) in _OPENING
        if inside and opens:
            continue  # thoughts that speak of the tag
        (thoughts if inside else own).append(text[begin : tag.start()])
        if not inside and not opens:
            thoughts, own = [*thoughts, *own], []  # the template opened the tag, so all before it is thoughts
        inside, begin = opens, tag.end()
    (thoughts if inside else own).append(text[begin:])
    return Parts("".join(thoughts), "".join(own), is_open=inside)


def _split_channels(text: str) -> Parts:
    places = [*_CHANNEL.finditer(text)]
    ends = [place.start() for place in places[1:]] + [len(text)]
    said = [(place[1], text[place.end() : end]) for place, end in zip(places, ends, strict=True)]
    thoughts = "\n".join(_WRAPPERS.sub("", part) for channel, part in said if channel != _FINAL)
    final = [part for channel, part in said if channel == _FINAL]
    return Parts(thoughts, "".join(final), is_open=not final)


def first_sentences(text: str, max_words: int) -> str:
    """The text's first sentences, on one line, of at most so many words together; one at least, and all for 0."""
    kept: list[str] = []
    num_words = 0
    for sentence in _SENTENCE.findall(text):
        words = sentence.split()
        num_words += len(words)
        if kept and max_words and num_words > max_words:
            break
        kept += words
    return " ".join(kept)
