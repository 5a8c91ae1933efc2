"""`kinase init`: a first manifest for your data."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinase import registry
from kinase.cli.common import BAD_INPUT, fail
from kinase.words import counted, unwritable

if TYPE_CHECKING:
    from kinase.api.look import Look

app = typer.Typer()

FACTORS = {"": 1, "k": 10**3, "m": 10**6}
DATA = (
    "A folder of images, an .npz archive, or digits, mnist, fashion-mnist, cifar10, cifar100, svhn"
)


class TaskType(StrEnum):
    """The tasks of our own trainer."""

    CLASSIFICATION = "Classification"
    MULTI_LABEL = "MultiLabel"
    REGRESSION = "Regression"


@app.command()
def init(
    data: Annotated[str | None, typer.Option(help=f"{DATA}.")] = None,
    max_params: Annotated[
        str | None,
        typer.Option(metavar="COUNT", help="Most parameters of a network, such as 50k or 1.5M."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="For search and finalists, such as 30m or 6h; default 30m.",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What to optimize; by default it is chosen by the data.")
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, help="Height and width of an image; by default chosen by the data."
        ),
    ] = None,
    task: Annotated[
        TaskType | None,
        typer.Option(case_sensitive=False, help="What to learn; by default chosen by the targets."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="CSV file in the folder of images that has the targets of each; by default the "
            "one that names its images, if there is one.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the experiment; default: that of the data.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write ('-': standard output); default NAME.yaml."
        ),
    ] = None,
) -> None:
    """Write a first manifest for your data: looks at the data, and chooses settings that fit.

    On a terminal it asks for what is not given as an option.
    """
    from kinase.api.load import ManifestError
    from kinase.space import InfeasibleError
    from kinase.starter import CannotPlan, Wishes, manifest, plan
    from kinase.starter.text import name_of

    for option, given in (("--data", data), ("--labels", labels), ("--out", out)):
        _utf8(option, None if given is None else str(given))
    asking = data is None and interactive()
    if data is None:
        if not asking:
            fail("--data is not given; name the folder or file of your data", BAD_INPUT)
        data = typer.prompt(DATA, err=True)
    if asking and max_params is None:
        max_params = typer.prompt(
            "Most parameters of a network, such as 50k (empty: any)",
            "",
            show_default=False,
            err=True,
        )
    if asking and time is None:
        time = typer.prompt("Time for all of it", "30m", err=True)
    wishes = Wishes(_seconds(time or "30m"), _count(max_params), metric, resolution)
    try:
        name = _name(name or name_of(str(Path(data).absolute()) if Path(data).exists() else data))
        target = out or Path(f"{name}.yaml")
        if str(target) != "-" and target.exists():
            fail(f"{target} already exists; remove it, or give another file by --out", BAD_INPUT)
        file = f"{name}.yaml" if str(target) == "-" else str(target)
        text = manifest(plan(_look(data, task, labels), wishes), name, file)
        _check(text)
        if str(target) == "-":
            typer.echo(text, nl=False)
            return
    except InfeasibleError as error:
        fail(
            f"kinase: images of this size are too small: {error}; use a larger --resolution",
            BAD_INPUT,
        )
    except (CannotPlan, ManifestError, OSError) as error:
        fail(f"kinase: {error}", BAD_INPUT)
    try:
        with target.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        fail(f"kinase: {unwritable(target, error)}", BAD_INPUT)
    typer.echo(f"{target} is written; search with: kinase run {target}")


def interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def _look(data: str, task: TaskType | None, labels: str | None) -> Look:
    try:
        look = import_module(registry.package("kinase.trainers", "torch")).look
    except (registry.UnknownMember, ImportError) as error:
        fail(
            f"kinase: looking at data needs the trainer ({error}); install it with: "
            "pip install 'kinase-nas[trainer]'",
            BAD_INPUT,
        )
    typer.echo(f"looking at {data} ...", err=True)
    try:
        found: Look = look(data, None if task is None else task.value, labels)
    except (ValueError, OSError) as error:
        fail(f"kinase: {error}", BAD_INPUT)
    typer.echo(
        f"{found.dataset}: {counted(found.samples, 'sample')} of {found.channels}x{found.height}x"
        f"{found.width}, {found.targets}"
        + (f" of {found.smallest:,} to {found.largest:,}" if found.largest else " each")
        + (f", from {found.labels}" if found.labels else ""),
        err=True,
    )
    return found


def _check(text: str) -> None:
    """Check the written manifest. If it is invalid, that is a bug in Kinase."""
    from kinase.api.load import parse_document
    from kinase.experiment.check import checked

    checked(parse_document("the proposal", text.encode()))


def _utf8(option: str, text: str | None) -> None:
    """Refuse a path that the manifest, which is UTF-8, cannot name."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        fail(f"{option} {text!r} is not UTF-8, as a manifest is; rename it", BAD_INPUT)


def _name(text: str) -> str:
    from kinase.api._base import DNS_LABEL, MAX_NAME

    if len(text) > MAX_NAME or not re.fullmatch(DNS_LABEL, text):
        fail(
            f"--name {text!r} is not a name; use a-z, 0-9 and -, at most {MAX_NAME} characters",
            BAD_INPUT,
        )
    return text


def _count(text: str | None) -> int | None:
    """A number of parameters: 50k, 1.5M, 20000."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([kKmM]?)", text.strip().replace(",", ""))
    count = round(float(match[1]) * FACTORS[match[2].lower()]) if match else 0
    if count < 1:
        fail(f"--max-params {text!r} is not a count; write it as 50k, 1.5M or 20000", BAD_INPUT)
    return count


def _seconds(text: str) -> float:
    from kinase.api._base import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        fail(f"--for {text!r}: {error}", BAD_INPUT)
