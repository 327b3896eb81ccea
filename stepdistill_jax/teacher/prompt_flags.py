"""The flags of `stepdistill teach` that say what is asked, and which answers students learn from."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepdistill_jax.teacher.prompting.few_shot import PromptSettings


def add_prompt_flags(parser: argparse.ArgumentParser) -> None:
    """Adds them in two groups, 'prompt' and 'quality'."""
    prompt = parser.add_argument_group("prompt")
    prompt.add_argument(
        "--prompt",
        metavar="FILE",
        default="",
        help="worked examples, or a name of ours such as wordproblems_terse (default: the dataset's own)",
    )
    prompt.add_argument(
        "--prompt_from",
        type=int,
        metavar="N",
        help="ask nothing, and write a prompt file to be edited, of N training rows, to --prompt or DATA/NAME/prompt.txt",
    )
    prompt.add_argument(
        "--shots", type=int, metavar="N", help="show the first N examples; 0 asks zero-shot (default all)"
    )
    prompt.add_argument(
        "--prompt_style",
        default="",
        choices=["turns", "message", "text"],
        help="examples as turns of a chat (its default), all in one message, or a text to continue",
    )
    prompt.add_argument("--temperature", type=float, default=0.0, help="0 (default) is greedy")
    prompt.add_argument("--top_p", type=float, default=1.0, help="nucleus sampling (default 1)")
    prompt.add_argument("--max_tokens", type=int, default=256, metavar="N", help="of an answer (default 256)")
    prompt.add_argument("--seed", type=int, metavar="N", help="of sampling (default the server's choice)")
    prompt.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="ends an answer (default the next question's mark)",
    )
    quality = parser.add_argument_group(
        "quality", "which answers students learn from; the others are kept and counted"
    )
    quality.add_argument(
        "--samples",
        type=int,
        default=1,
        metavar="N",
        help="self-consistency: N answers, the majority's label",
    )
    quality.add_argument("--min_votes", type=int, default=0, metavar="N", help="samples that must agree")
    quality.add_argument("--only_correct", action="store_true", help="the label must be the gold label")
    quality.add_argument(
        "--rationalise",
        action="store_true",
        help="where the label is not the gold one, ask again with the gold label as a hint",
    )
    quality.add_argument(
        "--max_rationale_words",
        type=int,
        default=0,
        metavar="N",
        help="drop longer rationales; thoughts that stand for one are cut to it",
    )
    quality.add_argument(
        "--rationale_from",
        default="answer",
        choices=["answer", "thoughts"],
        help="thoughts: a reasoning model's thoughts, where its answer has no explanation (default answer)",
    )
    quality.add_argument("--max_label_words", type=int, default=0, metavar="N", help="drop longer labels")
    quality.add_argument(
        "--drop_duplicates", action="store_true", help="drop a rationale that occurred before"
    )


def prompt_settings(args: argparse.Namespace) -> "PromptSettings":
    """The settings that the flags say.

    Raises:
      ValueError: for values that make no sense.
    """
    from stepdistill_jax.teacher.prompting.few_shot import PromptSettings
    from stepdistill_jax.teacher.prompting.quality import QualityRules

    if not 0.0 <= args.temperature <= 2.0:
        raise ValueError(f"--temperature={args.temperature}; use 0 to 2.")
    if not 0.0 < args.top_p <= 1.0:
        raise ValueError(f"--top_p={args.top_p}; use a share above 0, at most 1.")
    if args.max_tokens < 1:
        raise ValueError(f"--max_tokens={args.max_tokens}; allow 1 token or more.")
    rules = QualityRules(
        **{field.name: getattr(args, field.name) for field in dataclasses.fields(QualityRules)}
    )
    return PromptSettings(
        prompt=args.prompt,
        shots=args.shots,
        style=args.prompt_style,
        temperature=args.temperature,
        max_tokens=args.max_tokens,
        top_p=args.top_p,
        seed=args.seed,
        stop=tuple(args.stop),
        rules=rules,
        rationale_from=args.rationale_from,
    )
