"""Keys stay out of whatever is written or shown, and placeholders for keys change nothing."""

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

HIDDEN = "[hidden]"
_LEAST_LENGTH = 16  # characters; shorter keys are no secret worth a changed answer, and may be a word of it
# What documentation of servers without keys says to set.
_PLACEHOLDERS = frozenset(
    [
        "empty",
        "none",
        "null",
        "nothing",
        "undefined",
        "true",
        "false",
        "dummy",
        "fake",
        "test",
        "placeholder",
        "changeme",
        "secret",
        "password",
        "token",
        "key",
        "no-key",
        "nokey",
        "not-needed",
        "not-required",
        "no-key-required",
        "dummy-key",
        "fake-key",
        "test-key",
        "dummy-api-key",
        "api-key",
        "api_key",
        "apikey",
        "my-key",
        "my-api-key",
        "your-key",
        "your-api-key",
        "your-api-key-here",
        "your_api_key_here",
        "sk-xxx",
        "sk-no-key-required",
        "sk-no-key-needed",
        "sk-not-needed",
        "token-abc123",
        "ollama",
        "lm-studio",
        "lmstudio",
        "vllm",
        "sglang",
        "llama",
        "llama.cpp",
        "local",
        "localhost",
        "openai",
    ]
)
# Words of a query parameter's name that say that its value is a credential: api-key, access_token, X-Amz-Signature, …
_SECRET_WORDS = frozenset(
    [
        "key",
        "apikey",
        "token",
        "sig",
        "signature",
        "secret",
        "password",
        "passwd",
        "pwd",
        "pass",
        "code",
        "auth",
        "authorization",
        "credential",
        "credentials",
        "jwt",
        "bearer",
        "session",
        "sas",
    ]
)


class Redactor:
    """Hides the secrets it knows; a server may send a key back, in an error or even in an answer.

    An answer is data, so it is changed for a real key alone: one of 16 characters or more that is no known placeholder. What
    servers say beside answers (errors, names) is shown and stored, too, but nothing is learnt from it: there a shorter
    secret is hidden where it stands as a word, unless it is a placeholder or has fewer than four characters.
    """

    def __init__(self, secrets: Iterable[str]):
        real = {secret for secret in secrets if secret and secret.lower() not in _PLACEHOLDERS}
        # A body that is shown whole is JSON, where quotes and backslashes are escaped.
        forms = {form for secret in real for form in (secret, json.dumps(secret)[1:-1])}
        # Longest first, so that a secret within another leaves nothing of the longer one.
        self._long = _any_of(form for form in forms if len(form) >= _LEAST_LENGTH)
        self._short = _any_of(
            (form for form in forms if 4 <= len(form) < _LEAST_LENGTH), "(?<![A-Za-z0-9])", "(?![A-Za-z0-9])"
        )

    def __call__(self, text: str) -> str:
        """A server's words without secrets."""
        return self._short.sub(HIDDEN, self._long.sub(HIDDEN, text))

    def in_answer(self, text: str) -> tuple[str, int]:
        """An answer without keys, and how many were hidden."""
        return self._long.subn(HIDDEN, text)


def _any_of(texts: Iterable[str], before: str = "", behind: str = "") -> re.Pattern[str]:
    ordered = sorted(texts, key=len, reverse=True)
    if not ordered:
        return re.compile(r"(?!)")  # matches nowhere
    return re.compile(f"{before}(?:{'|'.join(map(re.escape, ordered))}){behind}")


def authorization_of_url(url: str) -> dict[str, str]:
    """The header that user and password of a URL stand for; {} where it has none."""
    parts = urlsplit(url)
    return {} if parts.password is None else {"Authorization": f"Basic {_basic(parts)}"}


def secrets_of_url(url: str) -> list[str]:
    """What in a URL is a credential: the password, and the query's values whose names say so, in every form they travel in."""
    parts = urlsplit(url)
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    found = [value for name, _, value in pairs if value and _is_secret(unquote(name))]
    if parts.password is not None:
        found += [parts.password, _basic(parts)]
    return found + [unquote(value) for value in found]


def _is_secret(name: str) -> bool:
    """Whether a parameter's name says that its value is a credential: 'api-key', 'accessToken', not 'api-version'."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return any(word.lower() in _SECRET_WORDS for word in words)


def _basic(parts: SplitResult) -> str:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def public_url(url: str) -> str:
    """The URL without user, password, query and fragment: fit to be shown and written."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(SplitResult(parts.scheme, host, parts.path, "", ""))
