"""The proxy between us and an upstream, as the environment names it."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from suffice.core.errors import InputError

_LOCAL = ("localhost", "127.0.0.1", "::1")


def proxy_of(parts: SplitResult) -> SplitResult | None:
    """The proxy for a URL, None for a direct connection. Raises InputError on an unknown kind."""
    host = parts.hostname or ""
    if host in _LOCAL or proxy_bypass(host):
        return None
    found = getproxies_environment().get(parts.scheme)
    if not found:
        return None
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise InputError(f"proxy {proxy.scheme}://{proxy.hostname} is not supported: http:// is")
    return proxy


def authorization(proxy: SplitResult) -> dict[str, str]:
    """The header by which we are known to the proxy, if its URL has a name in it."""
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"proxy-authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def header_lines(headers: Mapping[str, str]) -> str:
    """Headers as they are sent. Raises InputError on one that would be two."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    found = "".join(lines)
    if found.count("\n") > len(lines) or found.count("\r") > len(lines):
        names = [name for name, value in headers.items() if "\r" in value or "\n" in value]
        raise InputError(f"header {names[0] if names else 'name'} holds a line break")
    return found


async def connect_through(
    proxy: SplitResult,
    protocol: asyncio.Protocol,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
) -> None:
    """Connect `protocol` to the proxy, and with `tls` through a tunnel to `host` itself.

    Raises OSError if the proxy cannot be reached, says no or says nothing.
    """
    assert proxy.hostname is not None
    reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port or 8080)
    try:
        if tls is not None:
            target = f"{host}:{port}"
            asked = {"host": target, **authorization(proxy)}
            head = f"CONNECT {target} HTTP/1.1\r\n{header_lines(asked)}\r\n"
            writer.write(head.encode("latin-1"))
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer.split(b"\r\n")[0] + b" ":
                told = answer.split(b"\r\n")[0].decode("latin-1")
                raise OSError(f"the proxy {proxy.hostname} answers {told!r}")
            await writer.start_tls(tls, server_hostname=host)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        writer.transport.abort()
        raise OSError(f"the proxy {proxy.hostname} does not answer: {error}") from None
    except BaseException:  # whatever it is, cancellation too: raised again, the socket closed
        writer.transport.abort()
        raise
    writer.transport.set_protocol(protocol)
    protocol.connection_made(writer.transport)
