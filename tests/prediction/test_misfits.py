"""What of texts and answers does not fit is said in sentences."""

from stepdistill_jax.prediction.misfits import Misfits


def test_texts_that_fit_leave_nothing_to_say(made_up):
    predictor = made_up()
    misfits = Misfits(predictor)
    misfits.add(["no", "3 apples"], predictor(["no", "3 apples"]))
    assert misfits.sentences() == []


def test_changed_and_cut_texts_and_cut_answers_are_counted_over_all_portions(made_up):
    predictor = made_up(choices=())
    misfits = Misfits(predictor)
    longer_answer = "1 2 3 4 5 6 7 8 9 10 11 12 13"
    for texts in (["猫", "no", longer_answer], ["apples " * 60, "猫 犬"]):
        misfits.add(texts, predictor(texts))
    changed, longer, answers = misfits.sentences()
    assert changed == "2 of 5 (40 %) texts are changed by the vocabulary: it has no '猫' (in 2), '犬' (in 1)."
    assert longer.startswith(
        "1 of 5 (20 %) texts are longer than the 40 tokens that training cut inputs at, and are cut"
    )
    assert (
        answers
        == "1 of 5 (20 %) answers are cut: they have no end within the 12 tokens that training cut targets at."
    )
