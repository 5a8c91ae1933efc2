"""The policy of EAS: how it chooses the next edits of a chain, and how likely that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import autograd.numpy as np
import numpy
from numpy.typing import NDArray

from kinase.api.trial import Architecture
from kinase.space import layers
from kinase.space.chain import Chain
from kinase.space.layers import Layer
from kinase.strategy.policy import layers as nn
from kinase.strategy.policy import parameters as begin
from kinase.strategy.policy.edits import Edits, Layers
from kinase.strategy.policy.layers import Traced, draw
from kinase.strategy.policy.parameters import Array, Parameters

Rng = numpy.random.Generator


@dataclass(frozen=True, slots=True)
class Wider:
    """A choice of layers to make wider."""

    tokens: tuple[int, ...]
    """The chain before."""
    free: tuple[bool, ...]
    """Layers that can be made wider; nothing is chosen, or learned, of the others."""
    chosen: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Deeper:
    """A choice of a place for a new layer, and of its window."""

    tokens: tuple[int, ...]
    """The chain before."""
    places: tuple[int, ...]
    """Places in each block."""
    chosen: tuple[int, int, int]
    """Block, place in it, window."""


@dataclass(frozen=True, slots=True)
class Episode:
    """Choices one after the other, and the chain that they lead to."""

    steps: tuple[Wider | Deeper, ...]
    chain: Layers

    @property
    def architecture(self) -> Architecture:
        """Where it ends."""
        return {"layers": self.chain}


class ChainPolicy:
    """The meta-controller of Cai et al. (2018a, section 3): a bidirectional LSTM reads the layers,
    a wider actor decides for each of them, a deeper actor one thing after the other: block, place,
    window."""

    def __init__(self, space: Chain, embedding: int, units: int) -> None:
        """For the chains of a space."""
        self.edits = Edits(space)
        self._embedding, self._units = embedding, units
        every = layers.enumerate_layers(space.options)
        self._tokens = {_text(layer): index for index, layer in enumerate(every)}
        depth = space.options.max_depth
        self.choices = (depth, depth, len(self.edits.kernels))
        """Of the deeper actor: block, place in the block, window."""

    def parameters(self, rng: Rng) -> Parameters:
        """Parameters to begin with."""
        size, units = self._embedding, self._units
        p = {"layers": begin.embedding(rng, len(self._tokens), size)}
        p |= begin.lstm(rng, "encoder.ahead", size, units)
        p |= begin.lstm(rng, "encoder.back", size, units)
        p |= begin.linear(rng, "wider", 2 * units, 1)
        p |= begin.lstm(rng, "deeper", size, 2 * units)
        for number, count in enumerate(self.choices):
            before = self.choices[number - 1] if number else 1
            p[f"deeper.after{number}"] = begin.embedding(rng, before, size)
            p |= begin.linear(rng, f"deeper{number}", 2 * units, count)
        return p

    def read(self, chain: Layers) -> tuple[int, ...]:
        """The layers as numbers."""
        return tuple(self._tokens[_text(layer)] for layer in chain)

    # -- the networks ------------------------------------------------------------------

    def encode(
        self, p: Parameters, tokens: NDArray[numpy.int64], present: Array | None
    ) -> tuple[Traced, Traced]:
        """What the encoder says of each layer of some chains, and of the chains."""
        return nn.bidirectional(p, "encoder", p["layers"][tokens], present)

    def decide(
        self,
        p: Parameters,
        number: int,
        made: Sequence[Sequence[int]],
        places: Sequence[Sequence[int]],
        state: Traced,
    ) -> tuple[Traced, Traced]:
        """The deeper actor's state and the logarithms of its probabilities for the next of its
        choices, one row a chain, after those that were made."""
        before = [each[number - 1] if number else 0 for each in made]
        state = nn.lstm_step(p, "deeper", p[f"deeper.after{number}"][before], state)
        h, _ = np.split(state, 2, axis=1)
        allowed = numpy.ones((len(made), self.choices[number]))
        for row, (counts, choices) in enumerate(zip(places, made, strict=True)):
            if number == 0:
                allowed[row] = 0
                allowed[row, [i for i, count in enumerate(counts) if count]] = 1
            elif number == 1:
                allowed[row, counts[choices[0]] :] = 0
        return state, nn.log_softmax(nn.linear(p, f"deeper{number}", h), allowed)

    # -- learning ----------------------------------------------------------------------

    def score(self, p: Parameters, episodes: Sequence[Episode]) -> tuple[Traced, Traced]:
        """For each episode the logarithm of its probability; the mean entropy of the steps."""
        logs: Traced = numpy.zeros(len(episodes))
        entropy: Traced = 0.0
        wider, deeper = list[tuple[int, Wider]](), list[tuple[int, Deeper]]()
        for index, episode in enumerate(episodes):
            for step in episode.steps:
                if isinstance(step, Wider):
                    wider.append((index, step))
                else:
                    deeper.append((index, step))
        scored = list[tuple[Sequence[tuple[int, object]], tuple[Traced, Traced]]]()
        if wider:
            scored.append((wider, self._score_wider(p, [step for _, step in wider])))
        if deeper:
            scored.append((deeper, self._score_deeper(p, [step for _, step in deeper])))
        for steps, (each, spread) in scored:
            owners = [index for index, _ in steps]
            sums = numpy.zeros((len(episodes), len(owners)))
            sums[owners, range(len(owners))] = 1
            logs = logs + np.dot(sums, each)
            entropy = entropy + np.sum(spread)
        return logs, entropy / max(1, len(wider) + len(deeper))

    def _score_wider(self, p: Parameters, steps: Sequence[Wider]) -> tuple[Traced, Traced]:
        tokens, present = _pad([step.tokens for step in steps])
        outputs, _ = self.encode(p, tokens, present)
        logits = np.reshape(nn.linear(p, "wider", outputs), tokens.shape)
        free, chosen = (
            _pad([getattr(step, name) for step in steps])[0] for name in ("free", "chosen")
        )
        logs = np.sum(free * nn.log_sigmoid(logits, chosen), axis=0)
        return logs, np.sum(free * nn.sigmoid_entropy(logits), axis=0) / free.sum(axis=0)

    def _score_deeper(self, p: Parameters, steps: Sequence[Deeper]) -> tuple[Traced, Traced]:
        _, state = self.encode(p, *_pad([step.tokens for step in steps]))
        made, places = [step.chosen for step in steps], [step.places for step in steps]
        logs: Traced = 0.0
        entropy: Traced = 0.0
        for number in range(len(self.choices)):
            state, each = self.decide(p, number, made, places, state)
            taken = numpy.zeros((len(steps), self.choices[number]))
            taken[range(len(steps)), [choices[number] for choices in made]] = 1
            logs = logs + np.sum(taken * each, axis=1)
            entropy = entropy + nn.softmax_entropy(each)
        return logs, entropy / len(self.choices)


class Player:
    """Plays episodes by a policy with these parameters. What was read once is known."""

    def __init__(self, policy: ChainPolicy, parameters: Parameters) -> None:
        """Nothing was read yet."""
        self._policy, self._p = policy, parameters
        self._widen: dict[tuple[int, ...], Array] = {}
        self._deepen: dict[object, tuple[Array, Array]] = {}

    def play(self, start: Layers, wider: int, deeper: int, rng: Rng) -> Episode:
        """So many choices of each kind, from a chain on. Where nothing can be chosen there is no
        step."""
        chain, steps, edits = start, list[Wider | Deeper](), self._policy.edits
        for _ in range(wider):
            free = edits.can_widen(chain)
            if not any(free):
                break
            tokens = self._policy.read(chain)
            drawn = rng.random(len(chain)) < self._wider(tokens)
            chosen = tuple(bool(yes) and able for yes, able in zip(drawn, free, strict=True))
            steps.append(Wider(tokens, tuple(free), chosen))
            chain = edits.widen(chain, chosen)
        for _ in range(deeper):
            blocks = edits.blocks(chain)
            if not any(blocks):
                break
            tokens, places = self._policy.read(chain), tuple(len(block) for block in blocks)
            made: tuple[int, ...] = ()
            for _ in self._policy.choices:
                made = (*made, draw(self._deeper(tokens, places, made)[1], rng))
            block, place, window = made
            steps.append(Deeper(tokens, places, (block, place, window)))
            chain = edits.deepen(chain, blocks[block][place], edits.kernels[window])
        return Episode(tuple(steps), chain)

    def _wider(self, tokens: tuple[int, ...]) -> Array:
        """Of each layer the probability that it is made wider."""
        if tokens not in self._widen:
            outputs, _ = self._policy.encode(self._p, *_pad([tokens]))
            self._widen[tokens] = nn.sigmoid(nn.linear(self._p, "wider", outputs)[:, 0])
        return self._widen[tokens]

    def _deeper(
        self, tokens: tuple[int, ...], places: tuple[int, ...], made: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """The deeper actor after these choices, and the probabilities of the next."""
        known = (tokens, places, made)
        if known not in self._deepen:
            if made:
                state, _ = self._deeper(tokens, places, made[:-1])
            else:
                _, state = self._policy.encode(self._p, *_pad([tokens]))
            state, logs = self._policy.decide(self._p, len(made), [made], [places], state)
            self._deepen[known] = state, numpy.exp(logs[0])
        return self._deepen[known]


def _text(layer: Layer) -> str:
    """What the encoder reads of a layer; it does not see skips."""
    return layers.label(layer)


def _pad(
    rows: Sequence[Sequence[int]],
) -> tuple[NDArray[numpy.int64], Array | None]:
    """Sequences side by side, (steps, sequences), with zeros behind their ends; and where they are
    present, None where all are equally long."""
    longest = max(len(row) for row in rows)
    table = numpy.zeros((longest, len(rows)), dtype=numpy.int64)
    present = numpy.zeros((longest, len(rows), 1))
    for column, row in enumerate(rows):
        table[: len(row), column] = row
        present[: len(row), column] = 1
    return table, None if present.all() else present
