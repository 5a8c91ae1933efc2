"""What every page of ours embeds."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

from plotly.offline import get_plotlyjs

from kinase.report.html import plotly_js

SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
"""Of package/plotly-basic.min.js in plotly.js-basic-dist-min-4.1.1.tgz, as npm has it."""


def test_the_plotting_library_is_as_published_and_has_its_licence() -> None:
    vendor = files("kinase.report").joinpath("vendor")
    file = vendor.joinpath("plotly-basic.min.js").read_bytes()
    assert hashlib.sha256(file).hexdigest() == SHA256
    assert vendor.joinpath("LICENSE.plotly").read_text().startswith("MIT License")
    assert "Licensed under the MIT license" in plotly_js()[:400]


def test_it_may_stand_in_a_script_element_and_needs_no_eval() -> None:
    assert not re.search(r"</script|<!--", plotly_js())
    assert not re.search(r"\beval\(|\bnew Function\b", plotly_js())


def test_it_is_a_version_that_draws_what_plotly_describes() -> None:
    """The figures are made by the Python package, whose own library is of this version or near."""
    ours, theirs = (
        re.search(r"plotly\.js .*?v(\d+)\.", text[:400]) for text in (plotly_js(), get_plotlyjs())
    )
    assert ours
    assert theirs
    assert ours[1] == theirs[1]
