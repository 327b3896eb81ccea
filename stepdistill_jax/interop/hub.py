"""A model's folder from the Hugging Face hub, through its own client, if that is installed."""

import re
from pathlib import Path

HUB = "hf://"
_NAME = re.compile(r"hf://(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
_SMALL, _SAFETENSORS, _TORCH = ["*.json", "*.model"], ["*.safetensors"], ["pytorch_model*.bin"]


def download(address: str) -> Path:
    """The folder of hf://OWNER/NAME or hf://OWNER/NAME@REVISION in the client's cache, downloaded if need be.

    Only config, tokenizer and weights come: safetensors, or torch's where there are none.

    Raises:
      ValueError: for another address, or if huggingface_hub is not installed.
      OSError: if the hub cannot be reached or has no such model.
    """
    match = _NAME.fullmatch(address)
    if not match:
        raise ValueError(f"{address!r} names no model; write hf://OWNER/NAME or hf://OWNER/NAME@REVISION.")
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
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
    except (HfHubHTTPError, HFValidationError) as error:
        raise OSError(f"{address} was not downloaded: {error}") from error
    except OSError as error:
        raise OSError(f"{address} was not downloaded, and a folder of it is not there: {error}") from error
