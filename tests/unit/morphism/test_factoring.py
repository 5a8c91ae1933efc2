"""Filters as products of filters, against the product by its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kinase.morphism.factoring import factor, least_width
from kinase.morphism.plan import Factor, Reals

RANDOM = np.random.default_rng(0)


def factors(weight: Reals, width: int, first: int, second: int, groups: int = 1) -> list[Reals]:
    windows = ((first,) * (weight.ndim - 2), (second,) * (weight.ndim - 2))
    parts = (Factor(part, "w", width, *windows, groups, 7) for part in ("first", "second"))
    return [factor(part, weight) for part in parts]


def product(first: Reals, second: Reals, groups: int = 1) -> Reals:
    """What two layers do in a row, tap by tap."""
    sizes = [a + b - 1 for a, b in zip(first.shape[2:], second.shape[2:], strict=True)]
    made = np.zeros((len(second), first.shape[1], *sizes))
    parts = zip(*(np.split(each, groups) for each in (made, first, second)), strict=True)
    for into, one, other in parts:
        for at in itertools.product(*map(range, other.shape[2:])):
            place = tuple(slice(a, a + n) for a, n in zip(at, one.shape[2:], strict=True))
            taps = other[(slice(None), slice(None), *at)]
            into[(slice(None), slice(None), *place)] += np.tensordot(taps, one, 1)
    return made


def matrix(first: Reals, second: int) -> Reals:
    """Of the linear map from one output's second filters to its product with the first ones."""
    rows = []
    for channel, y, x in itertools.product(range(len(first)), range(second), range(second)):
        other = np.zeros((1, len(first), second, second))
        other[0, channel, y, x] = 1.0
        rows.append(product(first, other).ravel())
    return np.array(rows)


SIZES = [  # outputs, inputs of a group, windows, groups
    (4, 4, 2, 2, 1),
    (5, 3, 2, 2, 1),
    (3, 7, 2, 2, 1),
    (16, 8, 1, 3, 1),
    (8, 16, 3, 1, 1),
    (7, 5, 3, 3, 1),
    (5, 6, 2, 6, 1),
    (9, 4, 5, 3, 1),
    (6, 1, 2, 2, 6),
    (12, 2, 2, 2, 4),
    (8, 4, 2, 3, 2),
    (48, 48, 2, 2, 1),
    (3, 5, 1, 1, 1),
]


@pytest.mark.parametrize("extra", [0, 5])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_product_is_the_layer(size: tuple[int, ...], extra: int) -> None:
    """Exactly, and after both were rounded to float32 as well as float32 can hold the layer."""
    outputs, inputs, first, second, groups = size
    window = (first + second - 1,) * 2
    weight = RANDOM.normal(size=(outputs, inputs, *window))
    width = least_width(inputs, outputs // groups, (first,) * 2, (second,) * 2) + extra
    one, other = factors(weight, groups * width, first, second, groups)
    assert one.shape == (groups * width, inputs, first, first)
    assert other.shape == (outputs, width, second, second)
    assert np.abs(product(one, other, groups) - weight).max() <= 1e-14 * np.abs(weight).max()
    first32, second32 = (each.astype(np.float32).astype(np.float64) for each in (one, other))
    assert np.abs(product(first32, second32, groups) - weight).max() <= 5e-7 * np.abs(weight).max()
    assert min(np.mean(one != 0), np.mean(other != 0)) > 0.8
    again = factors(weight, groups * width, first, second, groups)
    assert all(map(np.array_equal, again, (one, other)))


def test_linear_layers_are_products_too() -> None:
    weight = RANDOM.normal(size=(6, 9))
    for width in (6, 8):
        one, other = factors(weight, width, 1, 1)
        assert np.abs(other @ one - weight).max() <= 1e-14


def test_a_smaller_filter_lies_in_the_middle_of_zeros() -> None:
    weight = RANDOM.normal(size=(4, 3, 3, 3))
    one, other = factors(weight, least_width(3, 4, (3, 3), (3, 3)), 3, 3)
    assert (
        np.abs(product(one, other) - np.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1)))).max()
        <= 1e-14
    )


@pytest.mark.parametrize("inputs", [4, 16])
def test_what_is_drawn_is_told_apart_easily(inputs: int) -> None:
    """The quotient is that of least squares, of which there is just one since no tap is left over;
    as few filters that are all random are far worse conditioned."""
    weight = RANDOM.normal(size=(40, inputs, 3, 3))
    width = least_width(inputs, 40, (2, 2), (2, 2))
    one, other = factors(weight, width, 2, 2)
    ours, random = matrix(one, 2), matrix(RANDOM.normal(size=one.shape), 2)
    found = np.linalg.lstsq(ours.T, weight.reshape(40, -1).T, rcond=None)[0].T
    assert np.allclose(other.reshape(40, -1), found, atol=1e-12)
    assert ours.shape == (9 * inputs, 9 * inputs)
    assert np.linalg.cond(ours) < 6
    assert np.linalg.cond(random) > 80


def test_the_least_width() -> None:
    """Never less than one unknown for each equation, and just that where nothing is left over."""
    sizes = itertools.product((1, 2, 3, 8, 9), (4, 9), (1, 2, 3, 5), (1, 2, 3, 4))
    for inputs, outputs, first, second in sizes:
        taps = (first + second - 1) ** 2
        unknowns = min(inputs * taps / second**2, outputs * taps / first**2)
        width = least_width(inputs, outputs, (first, first), (second, second))
        assert unknowns <= width <= unknowns + 1 + (first + second - 1) / min(first, second)
    assert least_width(4, 4, (2, 2), (2, 2)) == 9 == 4 * 9 / 4
    assert least_width(64, 32, (1, 1), (3, 3)) == 64
    assert least_width(64, 32, (3, 3), (1, 1)) == 32


def test_as_many_unknowns_as_equations_are_not_enough() -> None:
    """Two filters of 2x2 over one channel have two zeros in common, which all their products have:
    their 18 multiples by windows of 3x3 span 14 of the 16 taps of 4x4. Three do."""
    two, three = (matrix(RANDOM.normal(size=(n, 1, 2, 2)), 3) for n in (2, 3))
    assert two.shape == (18, 16)
    assert np.linalg.matrix_rank(two) == 14
    assert np.linalg.matrix_rank(three) == 16
    assert least_width(1, 99, (2, 2), (3, 3)) == 3
