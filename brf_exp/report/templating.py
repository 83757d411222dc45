"""Pages from templates: everything escaped, nothing undefined, no invisible characters."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from brf_exp.report.style import nameable

TEMPLATES = Path(__file__).resolve().parent / "templates"


def render(
    template: str, content: Mapping[str, Any], *, figures: Mapping[str, str], filters: Iterable[Callable[..., Any]]
) -> str:
    """The HTML of a template. `figures` are SVG elements by name; filters are called by their functions' names."""
    import jinja2
    from markupsafe import Markup, escape

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters |= {made.__name__: made for made in filters} | {"verbatim": escape}
    drawn = {name: Markup(svg) for name, svg in figures.items()}  # noqa: S704 - made here, from escaped text
    return environment.get_template(template).render({**content, "figures": drawn})


def _shown(value: Any) -> Any:
    """What an expression puts into the page. Text is shown without invisible characters; markup was made here."""
    return nameable(value) if type(value) is str else value
