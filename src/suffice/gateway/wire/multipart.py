"""Single fields of a multipart form, found without copying the files that it carries (RFC 7578)."""

from __future__ import annotations

import re

from suffice.core.errors import InputError

# A field that says something is short; what is longer is a file.
LONGEST_FIELD_BYTES = 4096
MOST_PARTS = 256
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^;\s"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'\bname="((?:[^"\\]|\\.)*)"|\bname=([^;\s"]+)', re.IGNORECASE)


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a multipart form."""
    return content_type.split(";", 1)[0].strip().lower() == "multipart/form-data"


def fields_of(body: bytes, content_type: str) -> dict[str, str]:
    """The short text fields of a form, the first of each name. Raises InputError."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InputError("the form has no boundary in its content type")
    delimiter = b"--" + (found.group(1) or found.group(2)).encode("latin-1", errors="replace")
    at = body.find(delimiter)
    if at < 0:
        raise InputError("the form does not hold its own boundary")
    fields: dict[str, str] = {}
    for _ in range(MOST_PARTS):
        begin = at + len(delimiter)
        if body[begin : begin + 2] == b"--":
            return fields
        end = body.find(b"\r\n" + delimiter, begin)
        if end < 0:
            raise InputError("the form ends in the middle of a part")
        _read(body, begin, end, fields)
        at = end + 2
    raise InputError(f"the form has more than {MOST_PARTS} parts")


def _read(body: bytes, begin: int, end: int, fields: dict[str, str]) -> None:
    """Take up the part between two places if it is a short field."""
    head_end = body.find(b"\r\n\r\n", begin, min(end, begin + LONGEST_FIELD_BYTES) + 4)
    if head_end < 0 or end - head_end - 4 > LONGEST_FIELD_BYTES:
        return
    head = body[begin:head_end]
    name = _NAME.search(head)
    if name is None or b"filename=" in head.lower():
        return
    key = (name.group(1) or name.group(2) or b"").decode(errors="replace")
    fields.setdefault(key, body[head_end + 4 : end].decode(errors="replace"))
