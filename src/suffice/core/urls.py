"""URLs of servers: checked where they come in, and shown without the secrets they may hold."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from suffice.core.errors import InputError

EXAMPLE = "write http://localhost:8000/v1"
# Names of query parameters that hold a key.
_SECRETS = ("key", "token", "secret", "password", "sig")


def checked_url(
    url: str, *, what: str = "upstream", instead: str = "give a key by api_key_env"
) -> str:
    """The URL as it is, if it can be used: http or https, a host, no secret in it.

    Raises InputError, which never shows what may be a secret and says what to do `instead`. A
    password in a URL would be seen in health checks, metrics and the log, so none is taken.
    """
    shown = masked_url(url)
    if any(character.isspace() or not character.isprintable() for character in url):
        raise InputError(f"{what} {shown!r} holds a space or a control character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, brackets that do not close
        host, port = None, None
    if host is None or port == 0 or parts.scheme not in ("http", "https"):
        scheme = "" if "://" in url else f" (did you mean http://{shown}?)"
        raise InputError(
            f"{what} {shown!r} is not a URL: {EXAMPLE}{scheme if '@' not in url else ''}"
        )
    if parts.username is not None or parts.password is not None:
        raise InputError(
            f"{what} {shown!r} has a user name or password in it, which would be shown wherever "
            f"the server is named: leave it out; {instead}"
        )
    if secret := _secret_in(parts):
        raise InputError(
            f"{what} {shown!r} has {secret!r} in its query, which would be shown wherever the "
            "server is named: leave it out and give a key by api_key_env"
        )
    return url


def masked_url(url: str) -> str:
    """The URL for messages: what stands before an @, and values of its query, are left out."""
    before_query, mark, query = url.partition("?")
    head, at, tail = before_query.rpartition("@")
    if at:
        scheme, mid, _ = head.partition("://")
        before_query = f"{scheme}{mid}…@{tail}" if mid else f"…@{tail}"
    names = "&".join(f"{each.partition('=')[0]}=…" for each in query.split("&")) if query else ""
    return "".join(c if c.isprintable() else "�" for c in f"{before_query}{mark}{names}")


def address_of(url: str) -> tuple[str, str, int, str, str]:
    """What two URLs have in common if they lead to the same server and path."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return parts.scheme, (parts.hostname or "").lower(), port, path, parts.query


def _secret_in(parts: SplitResult) -> str | None:
    for each in parts.query.split("&"):
        name, mark, value = each.partition("=")
        if mark and value and any(name.lower().endswith(secret) for secret in _SECRETS):
            return name
    return None
