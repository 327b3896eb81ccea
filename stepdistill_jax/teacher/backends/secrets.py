"""Keys stay out of whatever is written or shown."""

import base64
import json
from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

HIDDEN = "[hidden]"


class Redactor:
    """Replaces every secret it knows in a text; a server may send a key back, in an error or even in an answer."""

    def __init__(self, secrets: Iterable[str]):
        # A body that is shown whole is JSON, where quotes and backslashes are escaped.
        secrets = {form for secret in secrets if secret for form in (secret, json.dumps(secret)[1:-1])}
        # Longest first, so that a secret within another leaves nothing of the longer one.
        self._secrets = sorted(secrets, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


def authorization_of_url(url: str) -> dict[str, str]:
    """The header that user and password of a URL stand for; {} where it has none."""
    parts = urlsplit(url)
    return {} if parts.password is None else {"Authorization": f"Basic {_basic(parts)}"}


def secrets_of_url(url: str) -> list[str]:
    """What in a URL may be a credential: user and password in every form they travel in, and the query's values."""
    parts = urlsplit(url)
    found = [value for pair in parts.query.split("&") if (value := pair.partition("=")[2])]
    if parts.password is not None:
        found += [parts.password, _basic(parts)]
    return found + [unquote(value) for value in found]


def _basic(parts: SplitResult) -> str:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def public_url(url: str) -> str:
    """The URL without user, password, query and fragment: fit to be shown and written."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(SplitResult(parts.scheme, host, parts.path, "", ""))
