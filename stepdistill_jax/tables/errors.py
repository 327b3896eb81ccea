"""What is wrong with a table."""


class TableError(ValueError):
    """One line: the file, the line, what is wrong, and the mend.

    Attributes:
      reason: the same without file and line, so that rows with one fault can be told together; '' where it is none of a row.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
