"""The tools that ship, as MCP servers.

$ python -m suffice.tools.servers calculator           over stdio, for an mcpServers file
$ python -m suffice.tools.servers python
$ python -m suffice.tools.servers search notes/ more.jsonl
$ python -m suffice.tools.servers calculator --port 8300     streamable HTTP at /mcp, loopback
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from suffice.core.errors import SufficeError
from suffice.tools.functions import FunctionTools
from suffice.tools.servers import calculator, python, search

# A tool that ships is a line here; what it is made from are the documents of the command line.
SERVERS: dict[str, Callable[[list[Path]], FunctionTools]] = {
    "calculator": lambda _: calculator.server(),
    "python": lambda _: python.server(),
    "search": lambda documents: search.server(search.Documents.read(documents)),
}


def main() -> int:
    """Serve until the client has gone; exit code 2 after a one-line error."""
    parser = argparse.ArgumentParser(
        prog="python -m suffice.tools.servers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("tool", choices=SERVERS)
    parser.add_argument("documents", nargs="*", type=Path, help="of the search: files and folders")
    parser.add_argument("--port", type=int, help="serve HTTP on this port of 127.0.0.1")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds added to each call")
    args = parser.parse_args()
    try:
        from suffice.tools.servers.mcp_server import mcp_server  # noqa: PLC0415

        server = mcp_server(SERVERS[args.tool](args.documents), delay_s=args.delay)
    except SufficeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.port is None:
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=args.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
