"""A model's folder from the Hugging Face hub, through its own client, if that is installed."""

import re
from pathlib import Path

HUB = "hf://"
_NAME = re.compile(r"hf://(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
_SMALL, _SAFETENSORS, _TORCH = ["*.json", "*.model"], ["*.safetensors"], ["pytorch_model*.bin"]


def download(address: str) -> Path:
    """The folder of hf://OWNER/NAME or hf://OWNER/NAME@REVISION in the client's cache, downloaded if need be.

    Only config, tokenizer and weights come: safetensors, or torch's where there are none. A download that broke off goes on
    where the client's cache stands.

    Raises:
      ValueError: for another address, or if huggingface_hub is not installed.
      OSError: if the hub cannot be reached or has no such model.
    """
    match = _NAME.fullmatch(address)
    if not match:
        raise ValueError(f"{address!r} names no model; write hf://OWNER/NAME or hf://OWNER/NAME@REVISION.")
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ValueError(
            f"{address}: downloading needs `pip install huggingface_hub`; or download the folder by other means and name it."
        ) from error

    def fetch(patterns: list[str]) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                match["name"], revision=match["revision"], allow_patterns=patterns, ignore_patterns=["*/*"]
            )
        )

    try:
        folder = fetch([*_SMALL, *_SAFETENSORS])
        return folder if any(folder.glob("*.safetensors")) else fetch([*_SMALL, *_TORCH])
    except errors.GatedRepoError as error:
        mend = "it is gated: accept its terms on its page at the hub, and set HF_TOKEN to a token of yours"
        raise OSError(f"{address} was not downloaded; {mend}.") from error
    except errors.RepositoryNotFoundError as error:
        mend = "the hub has no such model, or it is private: mend the name, or set HF_TOKEN to a token that may read it"
        raise OSError(f"{address} was not downloaded; {mend}.") from error
    except errors.RevisionNotFoundError as error:
        raise OSError(
            f"{address} was not downloaded; the model has no revision {match['revision']!r}: name a branch, tag or commit."
        ) from error
    except (
        Exception
    ) as error:  # of the client, its HTTP library or its transfer library, which change between versions
        cause = " ".join(str(error).split()) or type(error).__name__
        raise OSError(
            f"{address} was not downloaded, and a whole folder of it is not there; the same command goes on: {cause}"
        ) from error
