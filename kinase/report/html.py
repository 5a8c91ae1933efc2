"""A page as one self-contained HTML document.

Names, messages and architectures are untrusted: templates escape them, data for the scripts is
embedded as JSON that can't end its element, and a content security policy only lets a page run its
own scripts (by SHA-256), without network access.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kinase.report import theme


def fill(template: str, scripts: tuple[str, ...], embedded: dict[str, Any], **values: Any) -> str:
    """Render a template, with scripts by name and their embedded data."""
    plotly, own, hashes = _scripts(scripts)
    palette = {"light": theme.LIGHT, "dark": theme.DARK}
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            **palette,
            style=_part("report.css"),
            plotly=plotly,
            script=own,
            hashes=hashes,
            embedded=embed({**embedded, "palette": palette}),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kinase.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda number: f"{number:,.0f}",
        "metric": theme.metric,
        "quantity": theme.quantity,
        "duration": theme.duration,
        "brief": theme.brief,
        "shorten": theme.shorten,
    }
    return environment


@cache
def _part(name: str) -> Markup:
    """A file that is embedded unchanged."""
    return Markup(files("kinase.report").joinpath("templates", name).read_text("utf-8"))


@cache
def plotly_js() -> str:
    """plotly.js with only the traces of the figures (scatter and bar): a fourth of the complete
    library in the Python package. See vendor/README.md."""
    # a parser reads \r\n as \n, and hashes the result
    path = files("kinase.report").joinpath("vendor", "plotly-basic.min.js")
    return path.read_bytes().decode().replace("\r\n", "\n")


@cache
def _scripts(names: tuple[str, ...]) -> tuple[Markup, Markup, str]:
    """plotly.js, the page's script, and their hashes for the policy."""
    plotly = Markup(plotly_js())
    own = Markup("\n").join(_part(name) for name in names)
    digests = (hashlib.sha256(text.encode()).digest() for text in (plotly, own))
    return plotly, own, " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)


def embed(data: Any) -> Markup:
    """JSON for a script element, escaped so that it cannot end the element.

    Raises:
        ValueError: a number that JSON doesn't have.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
