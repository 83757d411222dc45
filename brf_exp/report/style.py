"""How every figure looks, and how it becomes the same bytes each time."""

import contextlib
import io
import re
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart with any kind of colour vision. Orange is a loss, green a gain.
INK, MUTED, GRID, BAND, PAPER = "#1f2328", "#667080", "#d5dae1", "#e9eef4", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#a9568a"
THEMED = {
    INK: "ink", MUTED: "muted", GRID: "grid", BAND: "band", PAPER: "paper",
    BLUE: "blue", ORANGE: "orange", GREEN: "green", PURPLE: "purple",
}  # fmt: skip
PNG_DPI = 130
FORMATS = ("svg", "png", "pdf")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CONTROLS = ("Cc", "Cs")
_INVISIBLE = ("Cf", "Zl", "Zp")
_NO_DATES: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_STYLE: dict[Any, Any] = {  # matplotlib knows its options as literals
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # names come from strangers: a dollar sign is a dollar sign
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "lines.solid_capstyle": "butt",
}


@dataclass(frozen=True)
class Drawn:
    """A figure with a sentence that says what it shows."""

    figure: "Figure"
    label: str


@contextlib.contextmanager
def drawing(name: str = "brf_exp") -> Iterator[None]:
    """Matplotlib in the house style, whatever the user's own settings are; `name` salts the ids in an SVG."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        # A model's name may be in a script that the font lacks: a box is drawn, and the page has the name itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE | {"svg.hashsalt": name})
        yield


def canvas(width: float, height: float, **subplots: Any) -> tuple["Figure", Any]:
    """A figure of this size in inches with its axes. It belongs to nobody, so nothing has to be closed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**subplots)


def light_grid(axes: "Axes", axis: str = "x") -> None:
    """Thin lines behind the data along one axis, and no ticks on the other."""
    axes.grid(True, axis="x" if axis == "x" else "y")
    axes.tick_params(axis="y" if axis == "x" else "x", length=0)


def settle(figure: "Figure") -> None:
    """Fix where everything stands, so that it is worked out once and not for every file format."""
    with drawing():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def encode(figure: "Figure", kind: str, *, name: str) -> bytes:
    """A figure as the bytes of an svg, png or pdf file, free of dates and of anything random."""
    buffer = io.BytesIO()
    with drawing(name):
        figure.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=_NO_DATES[kind])
    return buffer.getvalue()


def inline_svg(svg: bytes, *, name: str, label: str) -> str:
    """An SVG file's element to stand in a page: its ids made unique, its colours those of the page's theme."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg ") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, role in THEMED.items():
        text = text.replace(colour, f"var(--{role})")
    text = text.replace("'DejaVu Sans'", "inherit")
    return text.replace("<svg ", f'<svg role="img" aria-label="{_attribute(nameable(label))}" ', 1)


def printable(text: str) -> str:
    """Text without control characters and lone surrogates, which XML cannot hold."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _CONTROLS else REPLACEMENT for c in text)


def nameable(text: str) -> str:
    """A name as a reader can tell it from others: what is invisible, or turns text around, becomes a replacement mark.

    Directional overrides and zero-width characters let a name look like another one, or reorder what stands beside it.
    """
    return "".join(REPLACEMENT if unicodedata.category(c) in _INVISIBLE else c for c in printable(text))


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
