"""A question with its worked examples as what a model is sent: the turns of a chat, one message, or a text to continue."""

from collections.abc import Sequence
from typing import Literal

from stepdistill_jax.teacher.answers.requests import Message
from stepdistill_jax.teacher.prompting.prompt_files import Exemplar, PromptFile

# 'turns': every example is a turn of the user's and one of the assistant's. 'message': all of it is one message of the
# user's. 'text': a text to be continued.
Style = Literal["turns", "message", "text"]
STYLES = ("turns", "message", "text")


def render(
    prompt: PromptFile,
    inputs: str,
    *,
    shots: Sequence[Exemplar],
    style: Style,
    hinted_label: str | None = None,
) -> str | tuple[Message, ...]:
    """The prompt for one question.

    Args:
      prompt: gives instruction, marks and the form of answers.
      inputs: the question.
      shots: the worked examples to show, in order; () asks zero-shot.
      style: see Style.
      hinted_label: the label to tell the model behind the question; the worked examples then tell theirs, too.
    """
    question = _with_hint(prompt, inputs, hinted_label)
    questions = [_with_hint(prompt, shot.inputs, shot.label if hinted_label else None) for shot in shots]
    form = prompt.json_instruction or ("" if shots else prompt.zero_shot)
    instruction = "\n".join(part for part in (prompt.instruction, form) if part)
    if style == "turns":
        return _turns(prompt, instruction, question, list(zip(questions, shots, strict=True)))
    blocks = [
        f"{prompt.question_mark} {asked}\n{prompt.answer_mark} {prompt.answer_text(shot)}"
        for asked, shot in zip(questions, shots, strict=True)
    ]
    blocks.append(f"{prompt.question_mark} {question}\n{prompt.answer_mark}")
    text = "\n\n".join([instruction, *blocks] if instruction else blocks)
    return text if style == "text" else (Message("user", text),)


def _with_hint(prompt: PromptFile, inputs: str, label: str | None) -> str:
    return f"{inputs}\n{prompt.hint_text(label)}" if label else inputs


def _turns(
    prompt: PromptFile, instruction: str, question: str, shots: Sequence[tuple[str, Exemplar]]
) -> tuple[Message, ...]:
    messages = [Message("system", instruction)] if instruction else []
    for asked, shot in shots:
        messages += [Message("user", asked), Message("assistant", prompt.answer_text(shot))]
    return (*messages, Message("user", question))


def stop_strings(prompt: PromptFile, next_question: str) -> tuple[str, ...]:
    """What ends an answer: the question that the model goes on to invent. Most servers take four at most."""
    return tuple(dict.fromkeys((f"\n{prompt.question_mark}", f"\n{next_question.removeprefix(chr(10))}")))
