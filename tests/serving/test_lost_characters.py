"""The log says which characters of requests the student does not know, each once, and not without end."""

from fake_student import FakeStudent

from stepdistill_jax.serving.lost_characters import LostCharacters


def test_each_unknown_character_is_said_once():
    said = []
    characters = LostCharacters(FakeStudent(), said.append)
    for texts in (["urgent"], ["一 later", "丁 丁"], ["一"], ["七\n一"]):
        characters.look_for(texts)
    assert said == [
        "texts are changed by the vocabulary: it has no '一', '丁' (each is said once)",
        "texts have line breaks, which the vocabulary reads as blanks (this is said once)",
        "texts are changed by the vocabulary: it has no '七' (each is said once)",
    ]


def test_what_clients_may_send_without_end_is_not_said_without_end():
    said, student = [], FakeStudent()
    characters = LostCharacters(student, said.append)
    characters.look_for(["".join(map(chr, range(0x4E00, 0x4E00 + 30)))])
    [line] = said
    assert line.count("'") == 2 * 20
    assert line.endswith("(each is said once, and no others after 20)")
    student.lost_characters = None  # is not asked again
    characters.look_for(["\n"])
    assert said == [line]
