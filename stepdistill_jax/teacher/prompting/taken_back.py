r"""Answers that their own text denies: doubted before the marker, or taken back behind the label.

    I doubt that the answer is 12.              One might think the answer is 12.
    The answer is 12.\n\nWait, no: it is 13.    Answer: entailment. Actually, that is wrong.

What is meant instead is not guessed.
"""

import re

TAKEN_BACK = "answer doubted or taken back"

# Directly before a marker, in the same clause: '… not think that the answer is'.
_DOUBT = re.compile(
    r"(?:\b(?:not|never|cannot|hardly|wrong|incorrect|false|whether|if|unless|might|may|could|maybe|perhaps|doubt\w*|suppos\w+|assum\w+|guess\w*|mistak\w+)|n['’]t)"
    r"\b[^.!?;:,\n]*$",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"(?:so|thus|hence|therefore)\b", re.IGNORECASE)
_LONGEST_CLAUSE = 80  # characters
_LONGEST_REST = 4000  # of what stands behind an answer
# What a model says when it thinks again, behind the end of a clause.
_AGAIN = (
    r"wait|hold on|hm+|oops|whoops|sorry|apologies|my (?:bad|mistake|apologies)|correction|corrected|actually|in fact|rather|instead"
    r"|scratch that|strike that|never ?mind|just kidding|on (?:second|further) thoughts?|on reflection|i mean|nope|no[,.!:;—–-]|no it|no wait"
    r"|not quite|not really|however|but|though|although|alternatively|or rather|edit:|update:|revised"
    r"|let(?:['’]s| me| us) (?:re|double|check|verify|think|correct|fix|try|see)\w*"
    r"|i (?:made|misread|mis\w+|forgot|overlooked|was wrong|should have|apologi[sz]e|need to re\w*|have to re\w*|take (?:that|it) back)"
    r"|warte|moment mal|nein|espera|attendez|attends|aspetta|подожди|нет[,.]|等等|等一下|不对|不，"
)
_THINKS_AGAIN = re.compile(
    rf"(?:[.!?;,。，！？)]['\"”’*_)]{{0,5}}\s{{0,9}}|\s[-–—]+\s*|—|\n[\W_]{{0,6}})(?:(?:but|and|oh|ah|well|ok|okay|no|yes|hmm+),?\s+)?(?:{_AGAIN})(?!\w)",
    re.IGNORECASE,
)
_BELOW = re.compile(rf"\n[\W_]{{0,6}}(?:(?:but|oh|ah|well|no|hmm+),?\s+)?(?:{_AGAIN})(?!\w)", re.IGNORECASE)
_NO_TEXT = re.compile(
    r"[.!?]\s+(?:(?:oh|ah|no|hmm+),?\s+)?(?:wait|scratch that|correction|oops|on second thought|i mean)\b",
    re.IGNORECASE,
)
_SAID_TO_BE_WRONG = re.compile(
    r"\b(?:is|was|are|be|seems|looks|that['’]s|it['’]s)\s+(?:\w+ly\s+)?(?:wrong|incorrect|mistaken|false|off\b|a mistake|an error|not (?:\w+ )?(?:right|correct|true))"
    r"|(?:isn['’]t|wasn['’]t) (?:right|correct|true)|\((?:wrong|incorrect|false|not (?:right|correct))\)"
    r"|\b(?:it|this|that|which|answer|label|result) should (?:rather |instead |actually |really )?(?:be|have been)\b",
    re.IGNORECASE,
)


def is_doubted(text: str, begin: int) -> bool:
    """Whether the clause before the marker at this place denies or only supposes what the marker says."""
    if _CONCLUDES.match(text, begin):
        return False
    return _DOUBT.search(text, max(0, begin - _LONGEST_CLAUSE), begin) is not None


def is_taken_back(behind: str, *, any_text: bool) -> bool:
    """Whether the text thinks again after its last answer.

    Args:
      behind: what stands behind the last marker, the label first; the label's first word is no sign.
      any_text: whether any text may be a label, so that its own line says little about it.
    """
    said = re.sub(r"\s*\n\s*", "\n", re.sub(r"^[\W_]+", "", behind[:_LONGEST_REST]))
    if any_text:
        return any(sign.search(said) is not None for sign in (_BELOW, _NO_TEXT))
    return any(sign.search(said) is not None for sign in (_THINKS_AGAIN, _SAID_TO_BE_WRONG))
