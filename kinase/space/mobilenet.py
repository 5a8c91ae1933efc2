"""Stages of inverted bottlenecks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.mobile import MobileNetSpace
from kinase.api.trial import Architecture
from kinase.space import mobile_blocks as blocks
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.elastic import Elastic, Layered, largest
from kinase.space.errors import ArchitectureError
from kinase.space.graph import Graph
from kinase.space.mobile_blocks import SKIP, Block
from kinase.space.supernet import Supernet

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENUMERABLE = 100_000
"""Maximum size of a space that is enumerated."""


class MobileNet(Space):
    """Stages of inverted bottlenecks (Sandler et al. 2018, section 3), as in ProxylessNAS (Cai et
    al. 2019, section 4.1) and Once-for-All (Cai et al. 2020, section 3.2).

    An architecture is ``{"multiplier": 1.0, "stages": [[{"kernel": 3, "expand": 6}, ...], ...]}``:
    the blocks of each stage, in order. With `resolutions`, it also has ``"resolution"``.

    A stage's first block has its stride, and its channels; the others keep the shape and add their
    input to their output. Leaving a block out is having a stage with one block less.
    """

    crosses = True

    def __init__(self, options: MobileNetSpace) -> None:
        """The space described by `space.mobileNet`."""
        self.options = options
        self.stages = options.all_stages
        self.kernels = tuple(sorted(set(options.kernels)))
        self.expansions = tuple(sorted(set(options.all_expansions)))
        self.multipliers = tuple(sorted(set(options.multipliers)))
        self.resolutions = tuple(sorted(set(options.resolutions or ())))

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """Draw the depth of each stage, then each block's numbers, uniformly."""
        return self._drawn(rng, self.kernels, self.expansions, None, self.multipliers)

    def _drawn(
        self,
        rng: Rng,
        kernels: Sequence[int],
        expansions: Sequence[int],
        depths: int | None,
        multipliers: Sequence[float],
    ) -> Architecture:
        """The choices of each number; `depths` is how many of the largest depths can be drawn."""

        def one(values: Sequence[Any]) -> Any:
            return values[int(rng.integers(len(values)))]

        stages = []
        for stage in self.stages:
            choices = range(stage.min_depth, stage.max_depth + 1)[-(depths or 0) :]
            stages.append(
                [{"kernel": one(kernels), "expand": one(expansions)} for _ in range(one(choices))]
            )
        found: Architecture = {"multiplier": float(one(multipliers)), "stages": stages}
        return found | ({"resolution": one(self.resolutions)} if self.resolutions else {})

    def nested(self, rng: Rng, free: Mapping[str, int]) -> Architecture:
        """See `Space`: kernel, depth, and width, which is both the expansion and the multiplier.
        The resolution is always free."""
        width = free.get("width", 1)
        return self._drawn(
            rng,
            self.kernels[-free.get("kernel", 1) :],
            self.expansions[-width:],
            free.get("depth", 1),
            self.multipliers[-width:],
        )

    @property
    def largest(self) -> Architecture:
        """The deepest network of the largest numbers."""
        return self._extreme(-1)

    @property
    def smallest(self) -> Architecture:
        """The shallowest network of the smallest numbers."""
        return self._extreme(0)

    def _extreme(self, place: int) -> Architecture:
        block = {"kernel": self.kernels[place], "expand": self.expansions[place]}
        depths = [(stage.min_depth, stage.max_depth)[place] for stage in self.stages]
        found: Architecture = {
            "multiplier": float(self.multipliers[place]),
            "stages": [[dict(block) for _ in range(depth)] for depth in depths],
        }
        return found | ({"resolution": self.resolutions[place]} if self.resolutions else {})

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        fields = {"multiplier", "stages"} | ({"resolution"} if self.resolutions else set())
        if not isinstance(architecture, dict) or set(architecture) != fields:
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; it is an object with the fields "
                f"{', '.join(sorted(fields))}"
            )
        _check("multiplier", architecture["multiplier"], self.multipliers, int | float)
        if self.resolutions:
            _check("resolution", architecture["resolution"], self.resolutions)
        stages = architecture["stages"]
        if not isinstance(stages, list) or len(stages) != len(self.stages):
            found = len(stages) if isinstance(stages, list) else f"{stages!r:.80}"
            raise ArchitectureError(f"stages is {found}; use a list of {len(self.stages)}")
        for number, (stage, given) in enumerate(zip(self.stages, stages, strict=True)):
            where, low, high = f"stages[{number}]", stage.min_depth, stage.max_depth
            if not isinstance(given, list) or not low <= len(given) <= high:
                found = len(given) if isinstance(given, list) else f"{given!r:.80}"
                raise ArchitectureError(f"{where} is {found}; use a list of {low} to {high} blocks")
            for index, block in enumerate(given):
                if not isinstance(block, dict) or set(block) != {"kernel", "expand"}:
                    raise ArchitectureError(
                        f"{where}[{index}] is {block!r:.80}; a block has the fields kernel and "
                        "expand"
                    )
                _check(f"{where}[{index}].kernel", block["kernel"], self.kernels)
                _check(f"{where}[{index}].expand", block["expand"], self.expansions)

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Change a number; add a block at the end of a stage, or remove the last one."""
        for multiplier in self.multipliers:
            if multiplier != architecture["multiplier"]:
                yield {**architecture, "multiplier": float(multiplier)}
        for resolution in self.resolutions:
            if resolution != architecture["resolution"]:
                yield {**architecture, "resolution": resolution}
        stages = architecture["stages"]
        for number, (stage, given) in enumerate(zip(self.stages, stages, strict=True)):
            for changed in self._changed(given, stage.min_depth, stage.max_depth):
                yield {
                    **architecture,
                    "stages": [*stages[:number], changed, *stages[number + 1 :]],
                }

    def _changed(self, given: list[Block], low: int, high: int) -> Iterator[list[Block]]:
        for index, block in enumerate(given):
            for field, values in (("kernel", self.kernels), ("expand", self.expansions)):
                for value in values:
                    if value != block[field]:
                        yield [*given[:index], {**block, field: value}, *given[index + 1 :]]
        if len(given) > low:
            yield given[:-1]
        if len(given) < high:
            for size, expand in product(self.kernels, self.expansions):
                yield [*given, {"kernel": size, "expand": expand}]

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """One edit: first one of the kinds that there are, then one of its edits, uniformly."""
        key, found = self.key(architecture), dict[str, list[Architecture]]()
        for edit in self.edits(architecture):
            found.setdefault(self.kind(architecture, edit), []).append(edit)
        for kind in rng.permutation(sorted(found)):
            choices = found[str(kind)]
            edit = choices[int(rng.integers(len(choices)))]
            if self.key(edit) != key:
                return edit
        return self.any_neighbour(architecture, rng)

    @property
    def kinds(self) -> tuple[str, ...]:
        """A block's numbers, the depth of a stage, and what holds for the whole network."""
        choices = {
            "kernel": len(self.kernels) > 1,
            "expand": len(self.expansions) > 1,
            "multiplier": len(self.multipliers) > 1,
            "resolution": len(self.resolutions) > 1,
            "depth": any(stage.min_depth < stage.max_depth for stage in self.stages),
        }
        return tuple(kind for kind, there in choices.items() if there)

    def kind(self, one: Architecture, other: Architecture) -> str:
        """The kind of an edit."""
        for field in ("multiplier", "resolution"):
            if one.get(field) != other.get(field):
                return field
        for ours, theirs in zip(one["stages"], other["stages"], strict=True):
            if len(ours) != len(theirs):
                return "depth"
            for a, b in zip(ours, theirs, strict=True):
                if a != b:
                    return "kernel" if a["kernel"] != b["kernel"] else "expand"
        return "kernel"

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover: each stage, and each number of the whole network, from either."""

        def either(a: Any, b: Any) -> Any:
            return a if rng.random() < 0.5 else b

        stages = [either(a, b) for a, b in zip(one["stages"], other["stages"], strict=True)]
        rest = {name: either(one[name], other[name]) for name in one if name != "stages"}
        return {**rest, "stages": stages}

    # -- identity and size -------------------------------------------------------------

    def _flat(self, architecture: Architecture) -> list[list[int]]:
        """Kernel, expansion, channels and stride of each block."""
        return [
            [block["kernel"], block["expand"], stage.width, 1 if index else stage.stride]
            for stage, given in zip(self.stages, architecture["stages"], strict=True)
            for index, block in enumerate(given)
        ]

    def canonical(self, architecture: Architecture) -> Any:
        """The blocks in order: between stages of one width, without a stride, is no border."""
        rest = [float(architecture["multiplier"]), architecture.get("resolution")]
        return [*rest, self._flat(architecture)]

    def size(self) -> Size:
        """Product over the stages of the sums over their depths."""
        each = len(self.kernels) * len(self.expansions)
        count = prod(
            sum(each**depth for depth in range(stage.min_depth, stage.max_depth + 1))
            for stage in self.stages
        )
        borders = all(a.width != b.width or b.stride > 1 for a, b in pairwise(self.stages))
        return Size(count * len(self.multipliers) * max(1, len(self.resolutions)), exact=borders)

    def enumerate(self) -> Iterator[Architecture]:
        """Every network of a small space."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} networks are too many to enumerate")
        kinds = [
            {"kernel": size, "expand": expand}
            for size, expand in product(self.kernels, self.expansions)
        ]
        each = [
            [
                [dict(block) for block in chosen]
                for depth in range(stage.min_depth, stage.max_depth + 1)
                for chosen in product(kinds, repeat=depth)
            ]
            for stage in self.stages
        ]
        seen: set[str] = set()
        for multiplier, resolution, stages in product(
            self.multipliers, self.resolutions or (None,), product(*each)
        ):
            found: Architecture = {"multiplier": float(multiplier), "stages": list(stages)}
            found |= {} if resolution is None else {"resolution": resolution}
            if (key := self.key(found)) not in seen:
                seen.add(key)
                yield found

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """For each possible block its one-hot kernel and expansion, zero where there is none; then
        the multiplier and the resolution, relative to the largest."""
        found: list[float] = []
        for stage, given in zip(self.stages, architecture["stages"], strict=True):
            for index in range(stage.max_depth):
                block = given[index] if index < len(given) else {}
                found += [float(block.get("kernel") == each) for each in self.kernels]
                found += [float(block.get("expand") == each) for each in self.expansions]
        found.append(architecture["multiplier"] / self.multipliers[-1])
        if self.resolutions:
            found.append(architecture["resolution"] / self.resolutions[-1])
        return np.array(found)

    @property
    def encoding(self) -> tuple[Part, ...]:
        """Kernel and expansion of each block, then the numbers of the whole network."""
        block = Part(len(self.kernels), choice=True), Part(len(self.expansions), choice=True)
        count = sum(stage.max_depth for stage in self.stages)
        return block * count + (Part(),) * (2 if self.resolutions else 1)

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """The sequence of blocks, and where it can be left: its beginnings."""
        head = "in" + "".join(
            f"@{architecture[n]:g}" for n in sorted(set(architecture) - {"stages"})
        )
        steps = [blocks.label(*each) for each in self._flat(architecture)]
        return frozenset(">".join([head, *steps[:count]]) for count in range(1, len(steps) + 1))

    # -- networks ----------------------------------------------------------------------

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """A 3x3 convolution, a block without expansion, the stages, a 1x1 convolution, global
        average pooling and a linear layer."""
        built = blocks.Builder(self.options, architecture, frame)
        for number, given in enumerate(architecture["stages"]):
            for index, block in enumerate(given):
                built.block(number, index, block)
        return built.end()

    def elastic(self, frame: Frame) -> Elastic:
        """The tensors of the largest network."""
        whole = self.graph(self.largest, frame)
        return Layered(largest(whole), lambda each: self.graph(each, frame), {}, {})

    def supernet(self, frame: Frame) -> Supernet | None:
        """Each block as a choice of its numbers, or of none; None if networks differ in more."""
        if len(self.multipliers) > 1 or len(self.resolutions) > 1:
            return None
        built = blocks.Builder(self.options, self.largest, frame)
        for number, stage in enumerate(self.stages):
            for index in range(stage.max_depth):
                built.choice(number, index, self._options(number, index))
        return Supernet(built.end(), tuple(built.choices))

    def _options(self, stage: int, index: int) -> tuple[str, ...]:
        found = [
            blocks.option(size, expand) for size, expand in product(self.kernels, self.expansions)
        ]
        return (*found, SKIP) if index >= self.stages[stage].min_depth else tuple(found)

    def path(self, architecture: Architecture) -> dict[str, int]:
        """The option of each block; those after a stage's last one are left out."""
        found: dict[str, int] = {}
        for number, (stage, given) in enumerate(
            zip(self.stages, architecture["stages"], strict=True)
        ):
            for index in range(stage.max_depth):
                options = self._options(number, index)
                block = given[index] if index < len(given) else None
                chosen = SKIP if block is None else blocks.option(block["kernel"], block["expand"])
                found[blocks.group(number, index)] = options.index(chosen)
        return found

    def architecture(self, path: Mapping[str, int]) -> Architecture:
        """The blocks that are not left out."""
        kinds = list(product(self.kernels, self.expansions))
        stages = []
        for number, stage in enumerate(self.stages):
            chosen = [path[blocks.group(number, index)] for index in range(stage.max_depth)]
            stages.append(
                [
                    {"kernel": kinds[option][0], "expand": kinds[option][1]}
                    for option in chosen
                    if option < len(kinds)
                ]
            )
        return {**self.largest, "stages": stages}

    def sketch(self, architecture: Architecture) -> Sketch:
        """One node per block."""
        nodes, group = [("in", "input")], dict[str, str]()
        for number, given in enumerate(architecture["stages"]):
            stage = self.stages[number]
            for index, block in enumerate(given):
                name = f"{number}.{index}"
                stride = 1 if index else stage.stride
                text = blocks.label(block["kernel"], block["expand"], stage.width, stride)
                nodes.append((name, text))
                group[name] = f"stage {number}"
        nodes.append(("out", "conv, pool, linear"))
        edges = [(a, b, "") for (a, _), (b, _) in pairwise(nodes)]
        return Sketch(tuple(nodes), tuple(edges), group)


def _check(where: str, value: object, values: Sequence[Any], kind: Any = int) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or value not in values:
        shown = ", ".join(f"{each:g}" for each in values)
        raise ArchitectureError(f"{where} is {value!r:.80}; use one of {shown}")
