"""Who answers: language models by server or in this process, recorded outputs, worked solutions."""
