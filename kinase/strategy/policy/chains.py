"""The policy of EAS: choices of edits of a chain, and their probabilities."""

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
    """A choice of layers to widen."""

    tokens: tuple[int, ...]
    """The chain before the choice."""
    free: tuple[bool, ...]
    """Layers that can be widened; the others are not chosen or learned from."""
    chosen: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Deeper:
    """A choice of the place and window of a new layer."""

    tokens: tuple[int, ...]
    """The chain before the choice."""
    places: tuple[int, ...]
    """Number of places in each block."""
    chosen: tuple[int, int, int]
    """(block, place in the block, window)."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A sequence of choices, and the resulting chain."""

    steps: tuple[Wider | Deeper, ...]
    chain: Layers

    @property
    def architecture(self) -> Architecture:
        """The final architecture."""
        return {"layers": self.chain}


class ChainPolicy:
    """The meta-controller of Cai et al. (2018a, section 3): a bidirectional LSTM reads the layers,
    a wider actor decides for each of them, a deeper actor one thing after the other: block, place,
    window."""

    def __init__(self, space: Chain, embedding: int, units: int) -> None:
        """A policy for the chains of a space."""
        self.edits = Edits(space)
        self._embedding, self._units = embedding, units
        every = layers.enumerate_layers(space.options)
        self._tokens = {_text(layer): index for index, layer in enumerate(every)}
        depth = space.options.max_depth
        self.choices = (depth, depth, len(self.edits.kernels))
        """Choices of the deeper actor: block, place in the block, window."""

    def parameters(self, rng: Rng) -> Parameters:
        """Initial parameters."""
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
        """Encode the layers as numbers."""
        return tuple(self._tokens[_text(layer)] for layer in chain)

    # -- the networks ------------------------------------------------------------------

    def encode(
        self, p: Parameters, tokens: NDArray[numpy.int64], present: Array | None
    ) -> tuple[Traced, Traced]:
        """The encoder's output for each layer of some chains, and for the chains."""
        return nn.bidirectional(p, "encoder", p["layers"][tokens], present)

    def decide(
        self,
        p: Parameters,
        number: int,
        made: Sequence[Sequence[int]],
        places: Sequence[Sequence[int]],
        state: Traced,
    ) -> tuple[Traced, Traced]:
        """The deeper actor's state and log probabilities of the next choice, one row per chain,
        after the choices so far."""
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
        """The log probability of each episode, and the mean entropy of the steps."""
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
    """Plays episodes with a policy of these parameters. Encodings are cached."""

    def __init__(self, policy: ChainPolicy, parameters: Parameters) -> None:
        """Start with an empty cache."""
        self._policy, self._p = policy, parameters
        self._widen: dict[tuple[int, ...], Array] = {}
        self._deepen: dict[object, tuple[Array, Array]] = {}

    def play(self, start: Layers, wider: int, deeper: int, rng: Rng) -> Episode:
        """Play an episode from a chain, with a number of choices of each kind. Impossible steps are
        skipped."""
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
        """For each layer, the probability that it is widened."""
        if tokens not in self._widen:
            outputs, _ = self._policy.encode(self._p, *_pad([tokens]))
            self._widen[tokens] = nn.sigmoid(nn.linear(self._p, "wider", outputs)[:, 0])
        return self._widen[tokens]

    def _deeper(
        self, tokens: tuple[int, ...], places: tuple[int, ...], made: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """The deeper actor's state after these choices, and the probabilities of the next one."""
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
    """The encoder's input for a layer; it does not include skips."""
    return layers.label(layer)


def _pad(
    rows: Sequence[Sequence[int]],
) -> tuple[NDArray[numpy.int64], Array | None]:
    """Sequences as a matrix (steps, sequences), padded with zeros; and a mask, or None if all have
    the same length."""
    longest = max(len(row) for row in rows)
    table = numpy.zeros((longest, len(rows)), dtype=numpy.int64)
    present = numpy.zeros((longest, len(rows), 1))
    for column, row in enumerate(rows):
        table[: len(row), column] = row
        present[: len(row), column] = 1
    return table, None if present.all() else present
