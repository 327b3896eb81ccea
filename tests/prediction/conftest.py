"""Students without training: a network of random parameters in a folder, or one that is made up."""

import pytest
from made_up_students import MadeUpNetwork, description_of, write_student

from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.prediction import description, predictor
from stepdistill_jax.prediction.portable import Student, choice_tokens
from stepdistill_jax.prediction.vocabularies import SentencePieceModel


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory):
    """student_folder(**changes of the description): student.json, vocabulary and a checkpoint of random parameters, step 7."""
    made = {}

    def make(**changes):
        key = repr(changes)
        if key not in made:
            folder = tmp_path_factory.mktemp("student")
            made[key] = write_student(folder, description_of(**changes))
        return made[key]

    return make


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """made_up(**changes of the description) -> a Predictor over a `MadeUpNetwork`."""
    vocabulary = SentencePieceModel(VOCABULARY_PATH, 0)

    def make(**changes):
        described = description_of(**changes)
        network = MadeUpNetwork(
            choice_tokens(described, vocabulary), vocabulary, described.feature_lengths["targets"]
        )
        description.write_description(tmp_path, described)
        student = Student(tmp_path, 7, described, vocabulary, network)
        monkeypatch.setattr(predictor, "load", lambda path, **options: student)
        return predictor.Predictor(tmp_path)

    return make
