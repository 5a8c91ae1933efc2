"""The patterns of the manifest in words, so that nobody has to read a regular expression."""

from __future__ import annotations

from kinase.api._base import DNS_LABEL, DURATION, METRIC

_FORMS = {
    DNS_LABEL: "a name: lower-case letters, digits and '-', with a letter or digit at both ends",
    DURATION: "a duration, such as 90s, 5m or 1h30m",
    METRIC: (
        "a metric: lower-case letters, digits and '_', with a letter first, such as val_accuracy"
    ),
    r"^[A-Za-z][A-Za-z0-9]*$": "a reason: letters and digits, with a letter first",
    r"^#[0-9a-fA-F]{6}$": "a colour, such as '#ffffff' (in quotes)",
    r"^(file|s3)://.+": "file://FOLDER or s3://BUCKET/PREFIX",
    r"^https?://.+": "http://HOST:PORT or https://HOST",
    r"^arn:\S+$": "a role's ARN, such as arn:aws:iam::123456789012:role/NAME",
    r"^[0-9a-zA-Z-]{1,64}$": "a UID: up to 64 letters, digits and '-'",
    r"^[A-Za-z_][A-Za-z0-9_]*([.:][A-Za-z_][A-Za-z0-9_]*)*$": (
        "a network: resnet18, or package.module:name"
    ),
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$": (
        "a proxy: letters, digits, '_', '.' and '-', with a letter or digit first"
    ),
    r"^[A-Za-z0-9_]+$": "a node's name: letters, digits and '_'",
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$": (
        "a label's value: letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    ),
    r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$": (
        "a label's name, such as team or example.com/team"
    ),
    r"^[A-Za-z_][A-Za-z0-9_.-]*$": (
        "a variable's name: letters, digits, '_', '.' and '-', with a letter or '_' first"
    ),
    r"^/[^:]*$": "an absolute path without ':', such as /data",
    r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$": "DOMAIN/NAME, such as kueue.x-k8s.io/multikueue",
}


def of(pattern: str) -> str:
    """The form in words, or the pattern itself if it is not one of the manifest's."""
    return _FORMS.get(pattern, pattern)
