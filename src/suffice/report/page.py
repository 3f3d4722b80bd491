"""A self-contained HTML page: no script, no network, one file that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  color: #1f2937; background: #f6f7f9; }
main { max-width: 1180px; margin: 0 auto; padding: 36px 24px 64px; }
h1 { font-size: 27px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 36px 0 10px; }
p.lead { color: #4b5563; margin: 0 0 22px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; }
.card, figure, .table, pre, .notes { background: #fff; border: 1px solid #e5e7eb;
  border-radius: 10px; }
.card { padding: 14px 16px; }
.card b { display: block; font-size: 25px; letter-spacing: -.02em; }
.card span { color: #6b7280; font-size: 13px; }
figure { margin: 0 0 16px; padding: 16px 18px 12px; }
figure svg { display: block; height: auto; }
figcaption { color: #6b7280; font-size: 13px; margin-top: 8px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 16px; }
.grid figure { margin: 0; }
.table { overflow-x: auto; margin-bottom: 14px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { padding: 8px 12px; text-align: right; white-space: nowrap; }
th { color: #6b7280; font-weight: 600; border-bottom: 1px solid #e5e7eb; }
td { border-top: 1px solid #f1f3f5; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
tr.strong td { background: #ecfdf5; font-weight: 600; }
.notes { padding: 8px 18px 8px 36px; }
.notes li { margin: 6px 0; }
pre { padding: 14px 16px; overflow-x: auto; font-size: 12.5px; line-height: 1.45; }
footer { color: #6b7280; font-size: 13px; margin-top: 36px; }
figure svg { max-width: 100%; }
@media (max-width: 640px) {
  main { padding: 20px 12px 40px; }
  .grid { grid-template-columns: minmax(0, 1fr); }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; }
  body { color: #e5e7eb; background: #111827; }
  p.lead, .card span, figcaption, th, footer { color: #9ca3af; }
  .card, .table, pre, .notes { background: #1f2937; border-color: #374151; }
  th { border-color: #374151; }
  td { border-color: #273244; }
  tr.strong td { background: #064e3b; }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One headline number."""

    value: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureBlock:
    """An SVG with its caption."""

    svg: str
    caption: str


def page(title: str, lead: str, sections: Sequence[str], *, footer: str) -> str:
    """The whole document; `sections` are HTML made by the functions below."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n<p class=lead>{escape(lead)}</p>\n"
        + "\n".join(sections)
        + f"\n<footer>{escape(footer)}</footer>\n</main>\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """A section's title."""
    return f"<h2>{escape(text)}</h2>"


def cards(items: Sequence[Card]) -> str:
    """Headline numbers in a row."""
    inner = "".join(
        f"<div class=card><b>{escape(i.value)}</b><span>{escape(i.label)}</span></div>"
        for i in items
    )
    return f"<div class=cards>{inner}</div>"


def figures(items: Sequence[FigureBlock], *, columns: bool = True) -> str:
    """Figures side by side, or one below the other."""
    inner = "".join(
        f"<figure>{i.svg}<figcaption>{escape(i.caption)}</figcaption></figure>" for i in items
    )
    return f"<div class={'grid' if columns else 'stack'}>{inner}</div>"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, strong: Sequence[int] = ()
) -> str:
    """A table; the rows numbered in `strong` stand out."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr{' class=strong' if index in strong else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for index, row in enumerate(rows)
    )
    return (
        f"<div class=table><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def notes(items: Sequence[str]) -> str:
    """A list of plain sentences."""
    return f"<ul class=notes>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def code(text: str) -> str:
    """Preformatted text."""
    return f"<pre>{escape(text)}</pre>"
