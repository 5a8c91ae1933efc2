"""Stages of inverted bottlenecks: published counts, strides, elastic and mixed supernets."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.mobile import MobileNetSpace
from kinase.space import ArchitectureError, Frame, InfeasibleError, derive_rng
from kinase.space.mobile_blocks import divisible, multiplied, strides
from kinase.space.mobilenet import MobileNet
from kinase.space.supernet import match

V2 = [(24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]
"""Channels, blocks and stride of the stages of Sandler et al. 2018, table 2."""
SMALL: dict[str, Any] = {
    "stages": [{"width": 4, "maxDepth": 3}, {"width": 6, "stride": 2, "minDepth": 2}],
    "stem": 4,
    "first": 0,
    "head": 8,
}
FRAME = Frame((3, 8, 8), 5)


def space(**options: Any) -> MobileNet:
    """A space."""
    return MobileNet(MobileNetSpace.model_validate(options))


def test_mobilenet_v2_has_its_parameters_and_multiply_adds() -> None:
    stages = [{"width": w, "minDepth": n, "maxDepth": n, "stride": s} for w, n, s in V2]
    v2 = space(stages=stages, kernels=[3], expansions=[6])
    graph = v2.graph(v2.sample(derive_rng(0)), Frame((3, 224, 224), 1000))
    assert graph.params() == 3_504_872
    assert graph.macs() == 300_774_272
    assert v2.size().count == 1


def test_once_for_all_has_as_many_networks_as_its_paper_says() -> None:
    # Cai et al. 2020, section 3.2: ((3 x 3)^2 + (3 x 3)^3 + (3 x 3)^4)^5, about 2 x 10^19; the
    # last stage's single block has nine more
    assert space().size().count == (9**2 + 9**3 + 9**4) ** 5 * 9
    assert space(preset="proxyless").size().count == (6 + 6**2 + 6**3 + 6**4) ** 5 * 6


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (224, [2, 2, 2, 2, 1, 2, 1]),
        (64, [1, 2, 2, 2, 1, 2, 1]),
        (32, [1, 1, 2, 2, 1, 2, 1]),
        (28, [1, 1, 2, 2, 1, 2, 1]),
        (8, [1, 1, 1, 1, 1, 2, 1]),
        (3, [1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_small_images_leave_out_the_first_strides(side: int, expected: list[int]) -> None:
    assert strides([2, 2, 2, 2, 1, 2, 1], side) == expected


@pytest.mark.parametrize(
    ("width", "expected"), [(1, 8), (12, 16), (33.6, 32), (44.8, 48), (11, 16)]
)
def test_scaled_widths_are_multiples_of_eight(width: float, expected: int) -> None:
    assert divisible(width) == expected


def test_a_resolution_is_a_smaller_image() -> None:
    elastic = space(**SMALL, resolutions=[4, 8])
    small, large = (
        elastic.graph({**elastic.largest, "resolution": side}, FRAME) for side in (4, 8)
    )
    assert small.params() == large.params()
    assert small.macs() < large.macs() / 3
    with pytest.raises(InfeasibleError, match="resolution 8 is above that of images of 4x8"):
        elastic.graph(elastic.largest, Frame((3, 4, 8), 5))


def test_a_border_between_equal_stages_is_no_difference() -> None:
    equal = space(**{**SMALL, "stages": [{"width": 4, "maxDepth": 2}, {"width": 4}]})
    block, other = {"kernel": 3, "expand": 6}, {"kernel": 5, "expand": 6}
    one = {"multiplier": 1.0, "stages": [[block, other], [block]]}
    two = {"multiplier": 1.0, "stages": [[block], [other, block]]}
    assert equal.key(one) == equal.key(two)
    assert not equal.size().exact


def test_a_slice_of_the_mixed_supernet_is_the_network_that_the_space_builds() -> None:
    small = space(**SMALL)
    supernet = small.supernet(FRAME)
    assert supernet is not None
    assert len(supernet.groups) == 7
    assert supernet.groups["stage0_block0"] == tuple(
        f"mb{expand}_{size}x{size}" for size in (3, 5, 7) for expand in (3, 4, 6)
    )
    assert supernet.groups["stage1_block2"][-1] == "skip"
    for draw in range(12):
        architecture = small.sample(derive_rng(0, draw))
        path = small.path(architecture)
        assert small.architecture(path) == architecture
        own, cut = small.graph(architecture, FRAME), supernet.slice(path)
        assert len(match(own, cut)) == len(own.nodes)
        assert (own.params(), own.macs()) == (cut.params(), cut.macs())


def test_any_block_that_keeps_the_shape_can_be_left_out() -> None:
    small = space(**SMALL)
    supernet = small.supernet(FRAME)
    assert supernet is not None
    path = small.path(small.largest)
    path["stage0_block1"] = supernet.groups["stage0_block1"].index("skip")
    path["stage0_block2"] = 0
    found = small.architecture(path)
    assert [len(stage) for stage in found["stages"]] == [2, 4]
    assert found["stages"][0][1] == {"kernel": 3, "expand": 3}
    match(small.graph(found, FRAME), supernet.slice(path))
    small.validate(found)


@pytest.mark.parametrize("options", [{"multipliers": [1, 1.2]}, {"resolutions": [4, 8]}])
def test_networks_of_several_sizes_have_no_mixed_supernet(options: dict[str, Any]) -> None:
    assert space(**SMALL, **options).supernet(FRAME) is None
    assert space(**SMALL, **options).elastic(FRAME) is not None


def test_what_is_free_is_drawn_and_the_rest_is_the_largest() -> None:
    ofa = space()

    def drawn(**free: int) -> tuple[set[int], set[int], set[int]]:
        stages = [s for draw in range(40) for s in ofa.nested(derive_rng(draw), free)["stages"]]
        blocks = [block for stage in stages for block in stage]
        return (
            {block["kernel"] for block in blocks},
            {block["expand"] for block in blocks},
            {len(stage) for stage in stages},
        )

    assert drawn() == ({7}, {6}, {1, 4})  # the last stage has one block
    assert drawn(kernel=3) == ({3, 5, 7}, {6}, {1, 4})
    assert drawn(kernel=3, depth=2) == ({3, 5, 7}, {6}, {1, 3, 4})
    assert drawn(kernel=3, depth=9, width=2) == ({3, 5, 7}, {4, 6}, {1, 2, 3, 4})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"multiplier": 2}, "multiplier is 2; use one of 1"),
        ({"resolution": 5}, "resolution is 5; use one of 4, 8"),
        ({"stages": [[]]}, "stages is 1; use a list of 2"),
        ({"stages": [[], []]}, r"stages\[0\] is 0; use a list of 1 to 3 blocks"),
        ({"stages": [[{"kernel": 3}], []]}, r"stages\[0\]\[0\] is .* has the fields kernel"),
        ({"stages": [[{"kernel": 9, "expand": 6}], []]}, r"\[0\].kernel is 9; use one of 3, 5, 7"),
        ({"stages": [[{"kernel": 3, "expand": 5}], []]}, r"\[0\].expand is 5; use one of 3, 4, 6"),
    ],
)
def test_what_is_no_architecture_says_where(damage: dict[str, Any], message: str) -> None:
    elastic = space(**SMALL, resolutions=[4, 8])
    with pytest.raises(ArchitectureError, match=message):
        elastic.validate({**elastic.largest, **damage})


def test_an_empty_stage_and_an_even_window_are_refused() -> None:
    with pytest.raises(ValueError, match="minDepth 3 is above maxDepth 2"):
        space(stages=[{"width": 4, "minDepth": 3, "maxDepth": 2}])
    with pytest.raises(ValueError, match=r"kernels has \[4\]"):
        space(kernels=[3, 4])


@pytest.mark.parametrize("width", range(1, 40))
def test_a_smaller_multiplier_is_never_wider(width: int) -> None:
    widths = [multiplied(width, m) for m in (0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)]
    assert widths == sorted(widths)
    assert multiplied(width, 1.0) == width
