"""One look for every figure: colours by role, sizes, and SVG or PNG out of matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1f2937"
MUTED = "#6b7280"
FAINT = "#d1d5db"
BLUE, AMBER, GREEN, RED, VIOLET, TEAL = (
    "#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2",
)  # fmt: skip
SERIES = (BLUE, AMBER, GREEN, VIOLET, RED, TEAL, "#be185d", "#4d7c0f")

_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eef0f3",
    "grid.linewidth": 0.9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "suffice",
    # Text stays text: the browser draws it, and the file is a third of the size.
    "svg.fonttype": "none",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib in our look, drawing to memory only; the caller's settings come back after."""
    import matplotlib as mpl  # noqa: PLC0415 — a design without --out never draws

    with mpl.rc_context(_RC):
        yield


def new_figure(
    width_in: float, height_in: float, *, margins: tuple[float, float, float, float] | None = None
) -> Figure:
    """A figure that belongs to no window and no global state.

    `margins` (left, bottom, right, top, as fractions) place one panel at once; without them the
    layout is solved from the drawn text, which takes several times as long.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    layout: Literal["constrained"] | None = None if margins else "constrained"
    figure = Figure(figsize=(width_in, height_in), layout=layout)
    if margins:
        left, bottom, right, top = margins
        figure.subplots_adjust(left=left, bottom=bottom, right=right, top=top)
    FigureCanvasAgg(figure)
    return figure


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element that scales to its container; the same every time."""
    stream = io.StringIO()
    # Identifiers are salted when they are written, so the style must hold here too.
    with house_style():
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    body = text[text.index("<svg") :]
    # Percentages instead of points let the page decide the width.
    return re.sub(r'<svg([^>]*?) width="[^"]*"', r'<svg\1 width="100%"', body, count=1).replace(
        ' height="', ' data-height="', 1
    )


def to_png(figure: Figure, *, dots_per_inch: int = 130) -> bytes:
    """The figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(
        stream,
        format="png",
        dpi=dots_per_inch,
        metadata={"Software": None},
        pil_kwargs={"compress_level": 2},
    )
    return stream.getvalue()
