"""A teacher's raw completion -> its rationale and label, by the rules of the authors' loader.

The rules are those of google-research/distilling-step-by-step, data_utils.py (`_parse_llm_output` of each dataset): cut where
the teacher goes on to invent the next question, split at the answer marker, take the label behind it. Where that
code crashes (two markers in a CQA output) or keeps a blank label, we give a reason instead, so that every output that
teaches nothing is counted under what is wrong with it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepdistill_jax.datasets import CompletionFormat

NO_MARKER = "no answer marker"
TWO_MARKERS = "two answer markers"
NO_LABEL = "no label behind marker"
NOT_A_CHOICE = "label not among the choices"
NO_RATIONALE = "empty rationale"
UNPARSED_REASONS = (NO_MARKER, TWO_MARKERS, NO_LABEL, NOT_A_CHOICE, NO_RATIONALE)


@dataclass(frozen=True)
class ParsedCompletion:
    """Rationale and label of one completion; `unparsed_reason` is '' or one of UNPARSED_REASONS.

    An unparsed completion has label ''. What stands before the marker is kept as rationale if there is just one marker.
    """

    rationale: str
    label: str
    unparsed_reason: str = ""


def parse_completion(
    output: str, completion_format: "CompletionFormat", *, labels: Sequence[str] = ()
) -> ParsedCompletion:
    """The rationale and label in `output`, or why there are none.

    Args:
      output: raw text of the teacher, most often running on into a question of its own making:
        'They put 10 seeds in 45 beds. So 10 * 45 seeds. The answer is (10 * 45).\\n\\nQ: There are 15 trees …'
        gives rationale 'They put 10 seeds in 45 beds. So 10 * 45 seeds.' and label '(10 * 45)'.
      completion_format: of the dataset: answer marker, start of the next question, and the pattern of the label.
      labels: the only labels that the task knows, or () if any text may be one. A truncated 'entail' is no label of e-SNLI;
        but an answer in CQA that is not one of its five choices is a (wrong) answer, as in the authors' code.
    """
    own_text = output.split(completion_format.next_question, 1)[0].rstrip()
    parts = own_text.split(completion_format.answer_marker)
    if len(parts) == 1:
        return ParsedCompletion("", "", NO_MARKER)
    if len(parts) > 2:
        return ParsedCompletion("", "", TWO_MARKERS)
    rationale = parts[0].rstrip()
    found = re.search(completion_format.label_pattern, parts[1], flags=re.DOTALL)
    label = found[1].strip() if found else ""
    if not label:
        return ParsedCompletion(rationale, "", NO_LABEL)
    if labels and label not in labels:
        return ParsedCompletion(rationale, "", NOT_A_CHOICE)
    if not rationale:
        return ParsedCompletion("", "", NO_RATIONALE)
    return ParsedCompletion(rationale, label)
