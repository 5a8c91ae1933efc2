"""Colours and text formats shared by all parts of the report."""

from __future__ import annotations

import math
from typing import Any

# Colours of data after Okabe & Ito 2008 ("Color Universal Design"): distinguishable with any colour
# vision. Only the lightness is changed, until the contrast with the background is at least 3:1,
# and text by 4.5:1 (WCAG 2.2, 1.4.3 and 1.4.11).
LIGHT = {
    "ink": "#1b1f24",
    "soft": "#5b6470",
    "line": "#dfe3e8",
    "grid": "#e9ecf0",
    "card": "#f5f7f9",
    "paper": "#ffffff",
    "thin": "#a3abb5",
    "blue": "#0072b2",
    "orange": "#c65700",
    "green": "#007d5c",
    "purple": "#a8507f",
    "gold": "#8a7400",
    "band": "rgba(198,87,0,0.15)",
}
DARK = {
    "ink": "#e6e9ee",
    "soft": "#a0a9b5",
    "line": "#30363d",
    "grid": "#262c34",
    "card": "#1a1f26",
    "paper": "#101418",
    "thin": "#5d6673",
    "blue": "#56b4e9",
    "orange": "#f0953a",
    "green": "#2bc59b",
    "purple": "#e29bc4",
    "gold": "#e3cf45",
    "band": "rgba(240,149,58,0.20)",
}
HUES = ("blue", "orange", "green", "purple", "gold", "ink")
"""Colours that distinguish data."""
for _palette, _opacity in ((LIGHT, 0.13), (DARK, 0.17)):
    for _hue in HUES:
        _parts = (int(_palette[_hue][i : i + 2], 16) for i in (1, 3, 5))
        _palette[f"{_hue}Tint"] = f"rgba({','.join(map(str, _parts))},{_opacity})"


def metric(value: float | None) -> str:
    """A measured value for people: four decimals, or four digits of a large number."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.4g}"


def quantity(value: float | None) -> str:
    """A count for people: 940, 12.3k, 1.50M."""
    if value is None or not math.isfinite(value):
        return "–"
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= factor:
            return f"{value / (1000 if unit == 'k' else factor):.3g}{unit}"
    return f"{value:,.0f}"


def size(number: int) -> str:
    """Bytes for people: 940 B, 12.3 kB, 1.5 MB."""
    value, units = float(number), iter(("B", "kB", "MB", "GB"))
    unit = next(units)
    while value >= 1000 and unit != "GB":
        value, unit = value / 1000, next(units)
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """A time for people: 42.1 s, 3 min 07 s, 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours:,} h {left:02} min" if hours else f"{minutes} min {rest:02} s"


def brief(architecture: Any) -> str:
    """Any architecture on one line: `layers: conv w32 k3 s1 | maxpool k3 s2`.

    A number is preceded by the first letter of its key, or by the key if the letter is ambiguous; a
    text is written without its key. For reading only: two architectures can look the same.
    """
    if isinstance(architecture, dict):
        parts = []
        initials = [str(key)[:1] for key in architecture]
        for key, value in architecture.items():
            if isinstance(value, bool | None):
                parts.append(str(key) if value else "")
            elif isinstance(value, int | float):
                name = str(key)
                parts.append(f"{name[:1] if initials.count(name[:1]) == 1 else name}{value}")
            elif isinstance(value, str):
                parts.append(value)
            else:
                parts.append(f"{key}: {brief(value)}")
        return " ".join(part for part in parts if part)
    if isinstance(architecture, list | tuple):
        plain = all(isinstance(each, str | int | float) for each in architecture)
        return (" " if plain else " | ").join(brief(each) for each in architecture)
    return str(architecture)


def shorten(text: str, length: int) -> str:
    """The text, truncated with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"
