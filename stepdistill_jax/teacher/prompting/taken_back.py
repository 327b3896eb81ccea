r"""Answers that their own text denies: doubted before the marker, or taken back behind the label.

    I doubt that the answer is 12.              One might think the answer is 12.
    The answer is 12.\n\nWait, no: it is 13.    Answer: entailment. Actually, that is wrong.

What is meant instead is not guessed. An explanation behind the label takes nothing back: 'neutral. The man sits, but nobody says where.'
"""

import re

TAKEN_BACK = "answer doubted or taken back"

# Directly before a marker, in the same clause: '… not think that the answer is'.
_DOUBT = re.compile(
    r"(?:\b(?:not|never|cannot|hardly|wrong|incorrect|false|whether|if|unless|might|may|could|maybe|perhaps|doubt\w*|suppos\w+|assum\w+"
    r"|guess\w*|mistak\w+)|n['’]t)\b[^.!?;:,\n]*$",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"(?:so|thus|hence|therefore)\b", re.IGNORECASE)
_LONGEST_CLAUSE = 80  # characters
_LONGEST_REST = 4000  # of what stands behind an answer
# What a model says when it thinks again: behind any break, or at the beginning of a sentence.
_ANYWHERE = (
    r"wait|hold on|hm+|oops|whoops|sorry|apologies|my (?:bad|mistake|apologies)|scratch that|strike that|never ?mind|just kidding|i mean"
    r"|nope|no wait|no[,.!:;—–-]|or rather|not (?:quite|really)|warte|moment mal|nein|espera|attendez|attends|aspetta|подожди|нет[,.]"
)
_AT_THE_BEGINNING = (
    r"actually|correction|corrected|on (?:second|further) thoughts?|on reflection|edit:|update:|revised|no it"
    r"|let(?:['’]s| me| us) (?:re|double|check|verify|think|correct|fix|try|see)\w*"
    r"|i (?:made|misread|mis\w+|forgot|overlooked|was wrong|should have|apologi[sz]e|need to re\w*|have to re\w*|take (?:that|it) back)"
    r"|the (?:correct|right|actual|real|true|revised|corrected) (?:answer|value|result|label|choice|option)|等等|等一下|不对"
)
_SOFTLY = r"(?:(?:but|and|oh|ah|well|ok|okay|no|yes|hmm+),?\s+)?"
_SIGNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:[.!?;,。，！？)]['\"”’*_)]{{0,5}}\s{{0,9}}|\s[-–—]+\s|—|\n[\W_]{{0,6}}){_SOFTLY}(?:{_ANYWHERE})(?!\w)",
        rf"(?:[.!?。！？]['\"”’*_)]{{0,5}}\s{{0,9}}|\n[\W_]{{0,6}}){_SOFTLY}(?:{_AT_THE_BEGINNING})(?!\w)",
        r"(?<!whether )(?<!if )\b(?:that|this|it|which|(?:that|this|the|my) (?:answer|result|label|calculation|equation|reasoning))"
        r"(?:['’]s|\s+(?:is|was|seems|looks))\s+(?:\w+ly\s+)?(?:wrong|incorrect|mistaken|off|an? (?:mistake|error)|not (?:\w+ )?(?:right|correct))"
        r"(?=\s*(?:[.,;:!?)]|$))",
        r"\b(?:that|this|it|which) (?:isn['’]t|wasn['’]t) (?:right|correct)|\((?:wrong|incorrect|false|not (?:right|correct))\)",
        r"^[^,;:.!?\n(]{1,60}\s(?:is|was)\s(?:\w+ly\s+)?(?:wrong|incorrect|not (?:right|correct|the answer))\b",
        r"\b(?:it|this|that|which|answer|label|result) should (?:rather |instead |actually |really )?(?:be|have been)\b",
    )
)
_STRUCK_OUT = re.compile(r"~~|</?(?:del|s|strike)>|\\(?:x?cancel|sout)\b|\u0336")
_NOT_THAT = re.compile(
    r"\n[\W_]{0,6}(?:(?:so\s+)?it(?:['’]s| is)\s+[^\n]{1,20}?,?\s+)?not\s+[\d(]", re.IGNORECASE
)
_QUALIFIED = re.compile(r"\n[\W_]{0,6}(?:but|however|alternatively)\b,?\s(?!many\b|much\b)", re.IGNORECASE)
# Where any text may be a label: at the beginning of a line below it, or of a sentence.
_BELOW = re.compile(
    rf"\n[\W_]{{0,6}}{_SOFTLY}(?:{_ANYWHERE}|{_AT_THE_BEGINNING}|but|however,)(?!\w)", re.IGNORECASE
)
_NEXT_SENTENCE = re.compile(
    r"[.!?]\s+(?:(?:oh|ah|no|hmm+),?\s+)?(?:wait|scratch that|correction|oops|on second thought|i mean)\b",
    re.IGNORECASE,
)


def is_doubted(text: str, begin: int) -> bool:
    """Whether the clause before the marker at this place denies or only supposes what the marker says."""
    if _CONCLUDES.match(text, begin):
        return False
    return _DOUBT.search(text, max(0, begin - _LONGEST_CLAUSE), begin) is not None


def is_taken_back(behind: str, *, any_text: bool, equation: bool = False) -> bool:
    """Whether the text thinks again after its last answer.

    Args:
      behind: what stands behind the last marker, the label first; the label's first word is no sign.
      any_text: whether any text may be a label, so that its own line says little about it.
      equation: whether labels are equations, whose value 'However, two are broken' changes.
    """
    said = re.sub(r"\s*\n\s*", "\n", re.sub(r"^[\W_]+", "", behind[:_LONGEST_REST]))
    signs = (
        (_BELOW, _NEXT_SENTENCE)
        if any_text
        else (*_SIGNS, _STRUCK_OUT, *((_QUALIFIED, _NOT_THAT) if equation else ()))
    )
    return any(sign.search(said) is not None for sign in signs)
