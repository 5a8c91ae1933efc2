"""The layers of a strategy's policy are torch's."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np
import pytest
import torch
from autograd import grad

from kinase.strategy import derive_rng
from kinase.strategy.policy import Adam, Parameters, parameters, tree_lstm
from kinase.strategy.policy.layers import Traced, bidirectional
from kinase.strategy.policy.tree_lstm import Branch, Node, Path

INPUTS, UNITS, LENGTHS = 3, 5, (6, 2, 4)
SUFFIXES = {"ahead": "", "back": "_reverse"}


@pytest.fixture
def p() -> Parameters:
    rng = derive_rng(0)
    made: Parameters = {}
    for name in SUFFIXES:
        made |= parameters.lstm(rng, f"e.{name}", INPUTS, UNITS)
        made[f"e.{name}.b"] = rng.normal(size=4 * UNITS)
    return made


def as_torch(p: Parameters) -> torch.nn.LSTM:
    lstm = torch.nn.LSTM(INPUTS, UNITS, bidirectional=True, dtype=torch.float64)
    with torch.no_grad():
        for name, suffix in SUFFIXES.items():
            getattr(lstm, f"weight_ih_l0{suffix}").copy_(torch.tensor(p[f"e.{name}.x"].T))
            getattr(lstm, f"weight_hh_l0{suffix}").copy_(torch.tensor(p[f"e.{name}.h"].T))
            getattr(lstm, f"bias_ih_l0{suffix}").copy_(torch.tensor(p[f"e.{name}.b"]))
            getattr(lstm, f"bias_hh_l0{suffix}").zero_()
    return lstm


def test_the_bidirectional_lstm_and_its_gradients(p: Parameters) -> None:
    steps = max(LENGTHS)
    xs = derive_rng(1).normal(size=(steps, len(LENGTHS), INPUTS))
    present = np.array([[[float(step < n)] for n in LENGTHS] for step in range(steps)])

    def loss(q: Parameters) -> Traced:
        both, state = bidirectional(q, "e", xs, present)
        h, c = anp.split(state, 2, axis=1)
        shown = anp.reshape(both, (steps, len(LENGTHS), 2 * UNITS)) * present
        return anp.sum(shown**2) + anp.sum(anp.sin(h)) + anp.sum(c**3)

    lstm = as_torch(p)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(xs), torch.tensor(LENGTHS), enforce_sorted=False
    )
    out, (h, c) = lstm(packed)
    shown, _ = torch.nn.utils.rnn.pad_packed_sequence(out)
    theirs = (shown**2).sum() + h.sin().sum() + (c**3).sum()
    theirs.backward()
    assert loss(p) == pytest.approx(theirs.item(), rel=1e-12)
    found = grad(loss)(p)
    for name, suffix in SUFFIXES.items():
        for ours, weight in (("x", "weight_ih"), ("h", "weight_hh"), ("b", "bias_ih")):
            wanted = getattr(lstm, f"{weight}_l0{suffix}").grad.numpy().T
            assert found[f"e.{name}.{ours}"] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_adam(p: Parameters) -> None:
    theirs = {name: torch.tensor(value, requires_grad=True) for name, value in p.items()}
    optimizer, adam = torch.optim.Adam(theirs.values(), lr=0.03), Adam(0.03)
    rng = derive_rng(2)
    for _ in range(20):
        gradients = {name: rng.normal(size=value.shape) for name, value in p.items()}
        for name, value in theirs.items():
            value.grad = torch.tensor(gradients[name])
        optimizer.step()
        p = adam.step(p, gradients)
    for name, value in p.items():
        assert value == pytest.approx(theirs[name].detach().numpy(), rel=1e-12, abs=1e-14)


# -- trees ---------------------------------------------------------------------------------

OPS = ("layer", "identity", "conv_1x1")
TREE: Node = (
    "add",
    (
        (
            "layer",
            (
                "concat",
                (
                    ("identity", None),
                    ("conv_1x1", ("add", tuple(("identity", None) for _ in range(3)))),
                ),
            ),
        ),
        ("layer", ("none", (("conv_1x1", None),))),
    ),
)
BRANCHES: tuple[Path, ...] = ((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 1, 2))

State = tuple[torch.Tensor, torch.Tensor]


class TreeLSTM:
    """The equations of Tai et al. (2015), one branch after the other: a node's gates, with weights
    for each thing that it takes; above and below an edge a step of torch's LSTM cell."""

    def __init__(self, p: dict[str, torch.Tensor]) -> None:
        self.p = p
        self.nothing = (torch.zeros(UNITS, dtype=torch.float64),) * 2

    def unit(self, name: str, taken: list[tuple[str, State]]) -> State:
        parts = {group: self.p[f"{name}.{group}"].chunk(4, dim=1) for group, _ in taken}
        bias = self.p[f"{name}.b"].chunk(4)
        i, g, o = (
            bias[k] + sum((h @ parts[group][k] for group, (h, _) in taken), bias[k] * 0)
            for k in range(3)
        )
        c = torch.sigmoid(i) * torch.tanh(g)
        for group, (h, memory) in taken:
            c = c + torch.sigmoid(bias[3] + h @ parts[group][3]) * memory
        return torch.sigmoid(o) * torch.tanh(c), c

    def edge(self, name: str, op: str, state: State) -> State:
        x = self.p["ops"][OPS.index(op)]
        h, c = torch.lstm_cell(
            x[None],
            (state[0][None], state[1][None]),
            self.p[f"{name}.edge.x"].T,
            self.p[f"{name}.edge.h"].T,
            self.p[f"{name}.edge.b"],
            torch.zeros(4 * UNITS, dtype=torch.float64),
        )
        return h[0], c[0]

    def up(self, branch: Branch) -> State:
        op, node = branch
        if node is None:
            return self.edge("up", op, self.nothing)
        below = [self.up(each) for each in node[1]]
        if node[0] == "none":
            return self.edge("up", op, below[0])
        if node[0] == "add":
            taken = [("child", each) for each in below]
        else:
            taken = [(f"child{i}", each) for i, each in enumerate(below)]
        return self.edge("up", op, self.unit(f"up.{node[0]}", taken))

    def down(self, tree: Node, path: Path) -> State:
        node, state = tree, self.nothing
        for own in path:
            merge, branches = node
            if merge != "none":
                taken = [("parent", state)]
                for i, each in enumerate(branches):
                    place = "" if merge == "add" else str(i)
                    taken += [(f"sibling{place}", self.up(each))] if i != own else []
                state = self.unit(f"down.{merge}", taken)
            op, below = branches[own]
            state = self.edge("down", op, state)
            node = below if below is not None else node
        return state

    def __call__(self, path: Path) -> torch.Tensor:
        node, branch = TREE, TREE[1][path[0]]
        for number in path[1:]:
            assert branch[1] is not None
            node = branch[1]
            branch = node[1][number]
        return torch.cat([self.up(branch)[0], self.down(TREE, path)[0]])


def test_the_tree_lstm_and_its_gradients() -> None:
    rng = derive_rng(3)
    p = {
        name: value + rng.normal(0, 0.5, value.shape)
        for name, value in tree_lstm.parameters(rng, OPS, INPUTS, UNITS).items()
    }
    other: Node = ("none", (("layer", None),))  # beside it, of another depth

    def loss(q: Parameters) -> Traced:
        asked = [(other, (0,)), *((TREE, path) for path in BRANCHES)]
        return anp.sum(anp.sin(tree_lstm.encode(q, OPS, asked)[1:]) ** 3)

    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in p.items()}
    lstm = TreeLSTM(tensors)
    theirs = torch.stack([lstm(path) for path in BRANCHES])
    (theirs.sin() ** 3).sum().backward()
    ours = tree_lstm.encode(p, OPS, [(TREE, path) for path in BRANCHES])
    assert ours == pytest.approx(theirs.detach().numpy(), rel=1e-12, abs=1e-14)
    found = grad(loss)(p)
    for name in p:
        gradient = tensors[name].grad
        assert gradient is not None
        assert np.any(gradient.numpy()), name
        alone = found[name]
        assert alone == pytest.approx(gradient.numpy(), rel=1e-9, abs=1e-12), name
