"""Cells of choice blocks, each of which adds up some of its inputs and some operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from math import comb, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.fidelity import Scale
from kinase.api.space import CellScale, ChoiceBlocksSpace
from kinase.api.trial import Architecture
from kinase.space import block_network
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.block_network import INPUTS, group_of_input, group_of_op
from kinase.space.canonical import canonical_form
from kinase.space.errors import ArchitectureError
from kinase.space.graph import Graph
from kinase.space.path_encoding import shortest
from kinase.space.supernet import NO_PARTS, Inputs, Supernet
from kinase.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENUMERABLE = 100_000
"""Maximum size of a space that is enumerated."""
SCALE = CellScale(cells=8, filters=16)
"""Of the networks, unless the manifest says otherwise."""
Block = dict[str, Any]
"""``{"inputs", "ops"}``."""


class ChoiceBlocks(Space):
    """Cells of choice blocks (Bender et al. 2018, section 3.1).

    An architecture is ``{"blocks": [{"inputs": [0, 1], "ops": ["skip_connect", "sep_conv_3x3"]},
    ...]}``. Inputs 0 and 1 are the outputs of the two cells before this one, n + 2 is the nth block
    of the same cell. A block adds up its inputs, each brought to the cell's width by a 1x1
    convolution, applies each of its operations to the sum, and adds up their results.
    """

    crosses = True

    def __init__(self, options: ChoiceBlocksSpace) -> None:
        """The space described by `space.choiceBlocks`."""
        self.options = options
        self.ops: tuple[str, ...] = tuple(dict.fromkeys(options.ops))
        self.most_ops = min(options.max_ops or len(self.ops), len(self.ops))

    def most_inputs(self, index: int) -> int:
        """Maximum number of inputs of a block."""
        return min(self.options.max_inputs, INPUTS + index)

    def scale(self, final: bool) -> Scale:
        """Cells and filters of the networks of the search or of the finalists."""
        chosen = (final and self.options.evaluation) or self.options.search or SCALE
        return Scale(cells=chosen.cells, filters=chosen.filters)

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """Draw for each block a number of inputs and of operations, then which, uniformly."""
        return {"blocks": [self._block(index, rng) for index in range(self.options.blocks)]}

    def _block(self, index: int, rng: Rng) -> Block:
        inputs = _some(range(INPUTS + index), self.most_inputs(index), rng)
        return {"inputs": inputs, "ops": _some(self.ops, self.most_ops, rng)}

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        if not isinstance(architecture, dict) or set(architecture) != {"blocks"}:
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; it is an object with the field blocks"
            )
        blocks, count = architecture["blocks"], self.options.blocks
        if not isinstance(blocks, list) or len(blocks) != count:
            found = len(blocks) if isinstance(blocks, list) else f"{blocks!r:.80}"
            raise ArchitectureError(f"blocks is {found}; use a list of {counted(count, 'block')}")
        for index, block in enumerate(blocks):
            path = f"blocks[{index}]"
            if not isinstance(block, dict) or set(block) != {"inputs", "ops"}:
                raise ArchitectureError(
                    f"{path} is {block!r:.80}; a block is an object with the fields inputs and ops"
                )
            inputs, ops, most = block["inputs"], block["ops"], self.most_inputs(index)
            if (
                not isinstance(inputs, list)
                or not 1 <= len(inputs) <= most
                or any(type(i) is not int or not 0 <= i < INPUTS + index for i in inputs)
                or len(set(inputs)) < len(inputs)
            ):
                raise ArchitectureError(
                    f"{path}.inputs is {inputs!r:.80}; use 1 to {most} different numbers from 0 to "
                    f"{INPUTS + index - 1}"
                )
            if (
                not isinstance(ops, list)
                or not 1 <= len(ops) <= self.most_ops
                or any(not isinstance(op, str) or op not in self.ops for op in ops)
                or len(set(ops)) < len(ops)
            ):
                raise ArchitectureError(
                    f"{path}.ops is {ops!r:.80}; use 1 to {self.most_ops} different ones of "
                    f"{', '.join(self.ops)}"
                )

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Add, remove or exchange an input or an operation of a block."""
        for index in range(self.options.blocks):
            for field in ("inputs", "ops"):
                yield from self._changed(architecture, index, field)

    def _changed(self, architecture: Architecture, index: int, field: str) -> list[Architecture]:
        blocks: list[Block] = architecture["blocks"]
        every: Sequence[Any] = self.ops if field == "ops" else range(INPUTS + index)
        most = self.most_ops if field == "ops" else self.most_inputs(index)
        return [
            {"blocks": [*blocks[:index], {**blocks[index], field: other}, *blocks[index + 1 :]]}
            for other in _near(blocks[index][field], every, most)
        ]

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """Change the inputs or the operations of a random block, until the cell differs."""
        key = self.key(architecture)
        for _ in range(50):
            index = int(rng.integers(self.options.blocks))
            field = ("inputs", "ops")[int(rng.integers(2))]
            edits = self._changed(architecture, index, field)
            if edits and self.key(edit := edits[int(rng.integers(len(edits)))]) != key:
                return edit
        return self.any_neighbour(architecture, rng)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The inputs of a block, and its operations."""
        return ("input", "operation")

    def kind(self, one: Architecture, other: Architecture) -> str:
        """The kind of an edit."""
        pairs = zip(one["blocks"], other["blocks"], strict=True)
        return "operation" if any(set(a["ops"]) != set(b["ops"]) for a, b in pairs) else "input"

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover: every block comes from one of the parents."""
        pairs = zip(one["blocks"], other["blocks"], strict=True)
        return {"blocks": [pair[int(rng.integers(2))] for pair in pairs]}

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The cell as a labelled graph in canonical order: all blocks are concatenated, in any
        order."""
        labels = [f"in{number}" for number in range(INPUTS)]
        edges: list[tuple[int, int]] = []
        for index, block in enumerate(architecture["blocks"]):
            labels.append("+".join(sorted(block["ops"])))
            edges += [(source, INPUTS + index) for source in block["inputs"]]
        return canonical_form(labels, edges)

    def size(self) -> Size:
        """The product over the blocks of the sets of inputs and of operations."""
        ops = _sets(len(self.ops), self.most_ops)
        wirings = (
            _sets(INPUTS + index, self.most_inputs(index)) for index in range(self.options.blocks)
        )
        return Size(prod(ops * each for each in wirings), exact=True)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture of a small space, one for each key."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} architectures are too many to enumerate")
        choices = [
            [
                {"inputs": list(inputs), "ops": list(ops)}
                for few in range(1, self.most_inputs(index) + 1)
                for inputs in combinations(range(INPUTS + index), few)
                for some in range(1, self.most_ops + 1)
                for ops in combinations(self.ops, some)
            ]
            for index in range(self.options.blocks)
        ]
        seen: set[str] = set()
        for blocks in product(*choices):
            architecture: Architecture = {"blocks": list(blocks)}
            key = self.key(architecture)
            if key not in seen:
                seen.add(key)
                yield architecture

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """For each block which inputs and which operations it has."""
        found: list[float] = []
        for index, block in enumerate(architecture["blocks"]):
            found += [float(source in block["inputs"]) for source in range(INPUTS + index)]
            found += [float(op in block["ops"]) for op in self.ops]
        return np.array(found)

    @property
    def encoding(self) -> tuple[Part, ...]:
        """Whether each possible input and each operation is there."""
        blocks = self.options.blocks
        inputs = sum(INPUTS + index for index in range(blocks))
        return (Part(1, choice=True),) * (inputs + blocks * len(self.ops))

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Operation sequences from an input to the output, the shortest ones."""
        at = [[f"in{number}"] for number in range(INPUTS)]
        for block in architecture["blocks"]:
            before = [path for source in block["inputs"] for path in at[source]]
            at.append(
                shortest(
                    path if op == "skip_connect" else f"{path}>{op}"
                    for path in before
                    for op in block["ops"]
                )
            )
        return frozenset(path for paths in at[INPUTS:] for path in paths)

    # -- networks ----------------------------------------------------------------------

    def _network(self, blocks: block_network.Blocks, frame: Frame, *, every: bool) -> Supernet:
        full, scale = self.scale(final=True), frame.scale
        filters = (scale.filters or full.filters or 1) * scale.filter_fraction
        cells = scale.cells or full.cells or 1
        return block_network.network(blocks, frame, cells, max(1, round(filters)), every=every)

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """The cells in their skeleton, at the frame's scale."""
        blocks = [
            (sorted(block["inputs"]), [op for op in self.ops if op in block["ops"]])
            for block in architecture["blocks"]
        ]
        return self._network(blocks, frame, every=False).graph

    def supernet(self, frame: Frame) -> Supernet | None:
        """Every block with every input and every operation. None with partial channels, which
        only cells have."""
        if frame.partial is not None:
            return None
        count = range(self.options.blocks)
        blocks = [(range(INPUTS + index), self.ops) for index in count]
        whole = self._network(blocks, frame, every=True)
        limits: list[Inputs] = []
        for index in count:
            inputs = tuple(group_of_input(index, source) for source in range(INPUTS + index))
            ops = tuple(group_of_op(index, op) for op in self.ops)
            limits.append(Inputs(inputs, self.most_inputs(index), least=1))
            limits.append(Inputs(ops, self.most_ops, least=1))
        return Supernet(whole.graph, whole.choices, tuple(limits))

    @property
    def unshared(self) -> str:
        """See `Space`."""
        return NO_PARTS

    def path(self, architecture: Architecture) -> dict[str, int]:
        """Whether each input and each operation is there."""
        found: dict[str, int] = {}
        for index, block in enumerate(architecture["blocks"]):
            for source in range(INPUTS + index):
                found[group_of_input(index, source)] = int(source in block["inputs"])
            for op in self.ops:
                found[group_of_op(index, op)] = int(op in block["ops"])
        return found

    def architecture(self, path: Mapping[str, int]) -> Architecture:
        """The blocks that have these inputs and operations."""
        found: Architecture = {
            "blocks": [
                {
                    "inputs": [s for s in range(INPUTS + i) if path[group_of_input(i, s)]],
                    "ops": [op for op in self.ops if path[group_of_op(i, op)]],
                }
                for i in range(self.options.blocks)
            ]
        }
        try:
            self.validate(found)
        except ArchitectureError as error:
            raise ArchitectureError(f"the path is no architecture: {error}") from None
        return found

    def sketch(self, architecture: Architecture) -> Sketch:
        """The cell: each block as the sum of its inputs, and its operations on the edges to it."""
        blocks = architecture["blocks"]
        boxes = [("0", "c(k-2)"), ("1", "c(k-1)")]
        edges: list[tuple[str, str, str]] = []
        for index, block in enumerate(blocks):
            name = str(INPUTS + index)
            boxes += [(f"{name}_sum", "+"), (name, f"block {index}")]
            edges += [(str(source), f"{name}_sum", "") for source in block["inputs"]]
            edges += [(f"{name}_sum", name, op) for op in self.ops if op in block["ops"]]
        edges += [(str(INPUTS + index), "out", "") for index in range(len(blocks))]
        return Sketch((*boxes, ("out", "concat")), tuple(edges))


def _sets(count: int, most: int) -> int:
    """How many sets of 1 to `most` there are."""
    return sum(comb(count, size) for size in range(1, most + 1))


def _some(every: Sequence[Any], most: int, rng: Rng) -> list[Any]:
    """A number of elements, then which, uniformly; in their order."""
    chosen = rng.choice(len(every), size=int(rng.integers(1, most + 1)), replace=False)
    return [every[int(place)] for place in sorted(chosen)]


def _near(given: Sequence[Any], every: Sequence[Any], most: int) -> Iterator[list[Any]]:
    """The sets with one element more, fewer, or exchanged."""
    for new in every:
        if new not in given and len(given) < most:
            yield [each for each in every if each in given or each == new]
    for old in given:
        if len(given) > 1:
            yield [each for each in every if each in given and each != old]
        for new in every:
            if new not in given:
                yield [each for each in every if (each in given and each != old) or each == new]
