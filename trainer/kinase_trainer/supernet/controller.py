"""ENAS's controller: an LSTM that writes paths."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kinase.space.supernet import NONE, Supernet
from kinase_trainer.supernet.watch import SKIPS


@dataclass
class Written:
    """Paths, B of them, and how they came about."""

    options: dict[str, Tensor]
    """Of each group the number of the option, (B,)."""
    chances: Tensor
    """Logarithms of the probabilities with which they were drawn, (B,)."""
    entropies: Tensor
    """Sums of the decisions' entropies in nats, (B,)."""
    skips: list[Tensor] = field(default_factory=list)
    """Probabilities of a skip, (B,), where it is a choice between it and none."""

    def path(self, number: int) -> dict[str, int]:
        """One of them."""
        return {group: int(options[number]) for group, options in self.options.items()}


class Controller(nn.Module):
    """Decides group by group; what it has decided is its next input (Pham et al. 2018, section 2.2
    and 2.3).

    Where a node takes some of its edges, it first picks these, one after the other by attention,
    and an option other than none for each.
    """

    def __init__(
        self, supernet: Supernet, generator: torch.Generator, units: int, tanh: float, reduce: float
    ) -> None:
        """Begin with parameters in -0.1..0.1.

        Args:
            supernet: whose paths it writes.
            generator: draws the parameters.
            units: of the LSTM.
            tanh: largest logit of an edge.
            reduce: the largest of an option is smaller by this factor.
        """
        super().__init__()
        self.supernet, self.tanh, self.reduce = supernet, tanh, reduce
        self._node = {group: node for node in supernet.inputs for group in node.groups}
        kinds = dict.fromkeys(supernet.groups.values())
        self._kinds = {options: str(number) for number, options in enumerate(kinds)}
        self._edges = {group: number for number, group in enumerate(self._node)}
        self.cell = nn.LSTMCell(units, units)
        self.start = nn.Parameter(torch.empty(units))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(units, len(options)) for options, name in self._kinds.items()}
        )
        self.words = nn.ModuleDict(
            {name: nn.Embedding(len(options), units) for options, name in self._kinds.items()}
        )
        if self._edges:
            self.anchors = nn.Embedding(len(self._edges), units)
            self.query, self.key = nn.Linear(units, units), nn.Linear(units, units, bias=False)
            self.attention = nn.Linear(units, 1, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-0.1, 0.1, generator=generator)

    def write(self, count: int, generator: torch.Generator | None) -> Written:
        """Write paths.

        Args:
            count: of paths.
            generator: draws the options; None takes the most probable ones.
        """
        return _Writing(self, count, generator).done()


class _Writing:
    """The state while paths are written."""

    def __init__(self, made: Controller, count: int, generator: torch.Generator | None) -> None:
        self.made, self.count, self.generator = made, count, generator
        zeros = torch.zeros(count, made.cell.hidden_size, device=made.start.device)
        self.state, self.input = (zeros, zeros), made.start.expand(count, -1)
        nothing = torch.zeros(count, device=made.start.device)
        self.written = Written({}, nothing, nothing)

    def done(self) -> Written:
        supernet, seen = self.made.supernet, set()
        for group, options in supernet.groups.items():
            node = self.made._node.get(group)
            if node is None:
                self._free(group, options)
            elif node not in seen:
                seen.add(node)
                if node.least is None:
                    self._pick(node.groups, node.count)
                else:
                    self._within(node.groups, node.least, node.count)
        return self.written

    def _step(self) -> Tensor:
        self.state = self.made.cell(self.input, self.state)
        return self.state[0]

    def _decide(self, logits: Tensor, allowed: Tensor | None = None) -> Tensor:
        """One of each row, (B, n) -> (B,)."""
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        logs = torch.log_softmax(logits, dim=1)
        chances = logs.exp()
        if self.generator is None:
            taken = chances.argmax(1)
        else:
            draws = torch.multinomial(chances.detach().cpu(), 1, generator=self.generator)
            taken = draws[:, 0].to(chances.device)
        done = self.written
        done.chances = done.chances + logs.gather(1, taken[:, None])[:, 0]
        done.entropies = done.entropies + torch.special.entr(chances).sum(1)
        return taken

    def _logits(self, options: tuple[str, ...]) -> Tensor:
        head = self.made.heads[self.made._kinds[options]]
        most = self.made.tanh / self.made.reduce
        found: Tensor = most * torch.tanh(head(self._step()))
        return found

    def _say(self, options: tuple[str, ...], taken: Tensor) -> None:
        self.input = self.made.words[self.made._kinds[options]](taken)

    def _free(self, group: str, options: tuple[str, ...], allowed: Tensor | None = None) -> None:
        logits = self._logits(options)
        if len(options) == 2 and NONE in options and not SKIPS.isdisjoint(options):
            skip = 1 - options.index(NONE)
            self.written.skips.append(torch.softmax(logits, 1)[:, skip])
        taken = self._decide(logits, allowed)
        self._say(options, taken)
        self.written.options[group] = taken

    def _pick(self, groups: tuple[str, ...], count: int) -> None:
        """Pick so many edges, and an option of each."""
        made = self.made
        options = made.supernet.groups[groups[0]]
        real = torch.tensor([option != NONE for option in options], device=made.start.device)
        none = torch.full((self.count,), options.index(NONE), device=made.start.device)
        numbers = torch.tensor([made._edges[group] for group in groups], device=none.device)
        anchors = made.anchors(numbers)
        left = torch.ones(self.count, len(groups), dtype=torch.bool, device=none.device)
        found = dict.fromkeys(groups, none)
        for _ in range(count):
            mixed = torch.tanh(made.query(self._step())[:, None] + made.key(anchors)[None])
            logits = made.tanh * torch.tanh(made.attention(mixed)[..., 0])
            edge = self._decide(logits, left)
            left = left.scatter(1, edge[:, None], False)
            self.input = anchors[edge]
            taken = self._decide(self._logits(options), real.expand(self.count, -1))
            self._say(options, taken)
            for number, group in enumerate(groups):
                found[group] = torch.where(edge == number, taken, found[group])
        self.written.options |= found

    def _within(self, groups: tuple[str, ...], least: int, most: int) -> None:
        """An option of each edge, none included, so that enough and not too many are not none."""
        used = torch.zeros(self.count, dtype=torch.long, device=self.made.start.device)
        for place, group in enumerate(groups):
            options = self.made.supernet.groups[group]
            real = torch.tensor([option != NONE for option in options], device=used.device)
            must, may = used + len(groups) - place <= least, used < most
            allowed = torch.where(real[None], may[:, None], ~must[:, None])
            self._free(group, options, allowed)
            used = used + real[self.written.options[group]]
