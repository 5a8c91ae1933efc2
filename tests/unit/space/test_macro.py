"""Whole networks with any skips."""

from __future__ import annotations

import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import MacroSpace
from kinase.space import ArchitectureError, Frame, InfeasibleError, derive_rng
from kinase.space.macro import Macro

SPACE = Macro(MacroSpace(layers=3, ops=("conv_3x3", "sep_conv_5x5", "max_pool_3x3")))
LAYERS = [
    {"op": "conv_3x3", "skips": []},
    {"op": "max_pool_3x3", "skips": [0]},
    {"op": "sep_conv_5x5", "skips": [0, 1]},
]


def test_size_of_the_published_space() -> None:
    """12 layers and 6 operations: 6^12 2^66, some 1.6e29 (Pham et al. 2018, section 2.3)."""
    size = Macro(MacroSpace()).size()
    assert (size.count, size.exact) == (6**12 * 2**66, True)
    assert str(size) == "1.61e+29"


def test_the_size_is_what_is_enumerated() -> None:
    found = list(SPACE.enumerate())
    assert len({SPACE.key(each) for each in found}) == len(found) == SPACE.size().count == 27 * 8
    for each in found:
        SPACE.validate(each)
    with pytest.raises(NotImplementedError, match="too many"):
        next(Macro(MacroSpace()).enumerate())


@pytest.mark.parametrize("searching", [False, True])
def test_parameters_by_hand(searching: bool) -> None:
    """Maps that join are added within a supernet, else concatenated and projected; and only then do
    widths double at the two reductions, behind layers 1 and 2."""
    c = 4
    frame = Frame((3, 8, 8), 10, Scale(filters=c), searching=searching)
    widths = [c, c, c] if searching else [c, 2 * c, 4 * c]
    stem = 27 * c + 2 * c
    total, first, a, b = stem, *widths

    def before(inside: int, out: int) -> int:  # the convolution of one pixel before each operation
        return inside * out + 2 * out

    total += before(c, first) + 9 * first * first + 2 * first
    total += 2 * before(c, a)  # maps 0 and 1, each halved by two convolutions of half the width
    total += before(a, a) + (2 * a if searching else 2 * a * a + 2 * a)
    total += 3 * before(a, b)  # maps 0, 1 and 2
    total += before(b, b) + 25 * b + b * b + 2 * b + (2 * b if searching else 3 * b * b + 2 * b)
    total += b * 10 + 10
    graph = SPACE.graph({"layers": LAYERS}, frame)
    assert graph.params() == total
    assert [graph.shapes()[f"layer{n}_bn"] for n in (1, 2)] == [(a, 4, 4), (b, 2, 2)]


def test_reductions_follow_a_third_and_two_thirds() -> None:
    space = Macro(MacroSpace())
    graph = space.graph(space.sample(derive_rng(0)), Frame((3, 32, 32), 10))
    sizes = [graph.shapes()[f"layer{n}_bn"][1] for n in range(1, 12)]
    assert sizes == [32] * 3 + [16] * 4 + [8] * 4


def test_a_map_that_is_too_small_to_be_halved_is_named() -> None:
    with pytest.raises(InfeasibleError, match="reduce1: stride 2 on a feature map of 1x8"):
        SPACE.graph({"layers": LAYERS}, Frame((1, 1, 8), 10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skips": [2]}, r"layers\[2\].skips is \[2\]; use increasing numbers from 0 to 1"),
        ({"skips": [1, 0]}, r"layers\[2\].skips is \[1, 0\]"),
        ({"skips": [0, 0]}, r"layers\[2\].skips is \[0, 0\]"),
        ({"op": "conv_5x5"}, r"layers\[2\].op is 'conv_5x5'; use one of conv_3x3, sep_conv_5x5"),
        ({"more": 1}, r"layers\[2\] is .* with the fields op and skips"),
    ],
)
def test_what_is_no_layer_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        SPACE.validate({"layers": [*LAYERS[:2], LAYERS[2] | change]})


def test_near_sets_choices_exactly() -> None:
    encoding, rng = SPACE.encoding, derive_rng(0)
    for draw in range(20):
        one, other = SPACE.sample(derive_rng(1, draw)), SPACE.sample(derive_rng(2, draw))
        vector, values, start = SPACE.vector(other), {}, 0
        for place, part in enumerate(encoding):
            values[place] = 1.0 + vector[start : start + part.columns].argmax()
            start += part.columns
        assert SPACE.near(one, values, rng) == other


def test_kinds_of_edits() -> None:
    one = {"layers": LAYERS}
    kinds = {SPACE.kind(one, other) for other in SPACE.neighbours(one)}
    assert kinds == {"operation", "remove-skip"}
    assert SPACE.kind(next(e for e in SPACE.neighbours(one) if e["layers"][1]["skips"] == []), one)
    assert set(SPACE.kinds) == kinds | {"add-skip"}


def test_paths_go_through_layers_and_skips() -> None:
    assert SPACE.paths({"layers": LAYERS}) == {
        "in",
        "in>conv_3x3",
        "in>sep_conv_5x5",
        "in>conv_3x3>max_pool_3x3>sep_conv_5x5",
    }
