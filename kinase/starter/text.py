"""A proposal as a manifest with comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta

from kinase.api._base import MAX_NAME, format_duration
from kinase.api.estimation import ASHAEstimation
from kinase.api.names import API_VERSION
from kinase.starter.plan import FEW, MOST_TRIALS, SEARCH_SHARE, Plan, uneven
from kinase.words import counted


def name_of(path: str) -> str:
    """An experiment's name from that of a file or folder."""
    text = path.rstrip("/").rpartition("/")[2].removesuffix(".npz").lower()
    return re.sub(r"[^a-z0-9]+", "-", text)[:MAX_NAME].strip("-") or "search"


def manifest(plan: Plan, name: str, file: str) -> str:
    """The text of the manifest."""
    return "\n".join(_lines(plan, name, file)) + "\n"


def _lines(plan: Plan, name: str, file: str) -> Iterator[str]:
    look, device = plan.look, plan.look.device
    size = f"{look.channels}x{look.height}x{look.width}"
    most = "" if look.fixed else " (the median size)"
    learned = {
        "Classification": f"in {look.targets}",
        "MultiLabel": f"with {look.targets}",
        "Regression": f"with {look.targets} each",
    }[look.task]
    images = f"{counted(look.samples, 'image')} of {size}{most} {learned}"
    yield f"# Written by kinase init for {images}."
    yield "#"
    yield f"#   kinase run {file}           searches; the same command resumes after Ctrl-C"
    yield f"#   kinase validate {file}      checks it after a change"
    yield "#   kinase explain spec.training   says what a field means"
    yield "#"
    yield "# The values are a start by rules of thumb, not an optimum."
    yield f"apiVersion: {API_VERSION}"
    yield "kind: NASExperiment"
    yield "metadata:"
    yield f"  name: {name}"
    yield "spec:"
    yield "  task:"
    if look.task != "Classification":
        yield f"    type: {look.task}"
    yield f"    dataset: {look.dataset}"
    if look.path is not None:
        yield f"    path: {json.dumps(look.path, ensure_ascii=False)}"
    if look.download:
        yield "    download: true  # it is fetched into path"
    if look.labels is not None:
        yield f"    folder: {{labels: {json.dumps(look.labels, ensure_ascii=False)}}}"
    if plan.side is not None:
        yield "    # Height and width in pixels; a trial's cost grows with the square."
        yield f"    resolution: {plan.side}"
    yield "  objective:"
    if uneven(look):
        most_of_one = counted(look.largest, "sample")
        yield f"    # The classes are uneven: {look.smallest:,} to {most_of_one}."
    yield f"    metric: {plan.metric}"
    yield "  training:  # of the finalists; candidates get what estimation says"
    yield f"    epochs: {plan.epochs}"
    yield f"    batchSize: {plan.batch}"
    yield "    optimizer:"
    yield "      type: AdamW"
    yield "      # If losses become NaN, lower it."
    yield "      adamw: {learningRate: 0.01, weightDecay: 0.05}"
    yield "    warmupEpochs: 1"
    if look.task == "Classification":
        yield "    labelSmoothing: 0.05"
    if look.task == "Regression":
        yield "    # Raise crop, or set flip: true, where a moved or mirrored image keeps its"
        yield "    # numbers."
        yield "    augmentation: {crop: 0, flip: false}"
    else:
        kept = "class" if look.task == "Classification" else "labels"
        yield f"    # Set flip: true where a mirrored image keeps its {kept}."
        yield f"    augmentation: {{crop: {plan.crop}, flip: false}}"
    yield "  space:"
    yield "    # Layers one after another: the quickest to search. docs/methods has others."
    yield "    type: Chain"
    wanted = plan.wishes.max_params
    bound = f", within the {wanted:,} asked for" if wanted is not None else ""
    yield f"    # Its largest network has {plan.largest:,} parameters{bound}."
    yield (
        f"    chain: {{minDepth: 2, maxDepth: {plan.depth}, widths: {list(plan.widths)}, "
        f"kernels: {list(plan.kernels)}}}"
    )
    yield "  strategy:"
    about = f"The time pays for about {counted(plan.trials, 'trial')}"
    if plan.population is None:
        yield f"    # {about}; below {FEW}, random search is as good as any."
        yield "    type: Random"
    else:
        sample = max(2, plan.population // 4)
        yield f"    # {about}; the first {plan.population} are random."
        yield "    type: Evolution"
        yield f"    evolution: {{population: {plan.population}, sample: {sample}}}"
    yield "  estimation:"
    seconds = counted(max(1, round(plan.trial_seconds)), "second")
    seconds = f"about {seconds}" if plan.trial_seconds >= 1 else "less than a second"
    mean = ", on average" if plan.ladder else ""
    yield (
        f"    # A candidate's training{mean}: {seconds} on this machine's {device}, "
        "as a rough guess."
    )
    if plan.ladder:
        first, second, *_ = map(int, ASHAEstimation().values(plan.epochs))
        yield (
            f"    # Each is trained for {counted(first, 'epoch')}, the best third for "
            f"{second}, and so on up to {plan.epochs}."
        )
        yield "    type: ASHA"
    elif plan.low_epochs == plan.epochs and plan.fraction == 1:
        yield "    type: Full  # candidates are trained as long as finalists"
    else:
        yield "    # The time is too short to compare enough candidates in rungs (type ASHA)."
        yield "    type: LowerFidelity"
        fraction = f", dataFraction: {plan.fraction:g}" if plan.fraction < 1 else ""
        yield f"    lowerFidelity: {{epochs: {plan.low_epochs}{fraction}}}"
    yield "  budget:"
    whole = _duration(plan.wishes.seconds)
    yield f"    # {SEARCH_SHARE:.0%} of {whole}; the finalists are trained after it."
    yield f"    duration: {_duration(plan.search_seconds)}"
    yield f"    trials: {MOST_TRIALS}  # at most"
    what = "a GPU" if device == "cuda" else "a core" if device == "cpu" else "the device"
    yield f"    parallelism: {plan.parallelism}  # trials at once, {what} each"
    yield "  finalists:"
    yield f"    count: {plan.finalists}  # the best candidates, trained in full; one of them wins"
    yield "  storage:"
    yield "    uri: file://runs  # in the folder where kinase run is called"


def _duration(seconds: float) -> str:
    return format_duration(timedelta(seconds=max(1, round(seconds))))
