"""Why an answer of a language model says nothing that a student could learn, and what can be done about it."""

SPENT = "budget spent on reasoning"
CUT = "cut at max_tokens"
UNENDED = "reasoning without an answer"
EMPTY = "empty answer"
FILTERED = "stopped by the content filter"
REFUSED = "refused by the model"

_LARGER_BUDGET = "raise --max_tokens: the same command then asks for these again, and for nothing else"
MENDS = {
    SPENT: _LARGER_BUDGET,
    CUT: _LARGER_BUDGET,
    UNENDED: "a stop string may have ended the reasoning: set another --stop, or --teacher_option stop=none",
    EMPTY: "see whether the server has the right chat template, and whether --stop ends answers at once",
    FILTERED: "the server withholds these answers: ask another one for them",
    REFUSED: "the model declines: see `stepdistill teach show --unparsed`, and change the --prompt",
}
