"""One-shot estimation of spaces whose networks are slices of a largest one."""

from __future__ import annotations

import pytest

from kinase.api.estimation import OneShotEstimation
from kinase.api.fidelity import Fidelity
from kinase.api.mobile import MobileNetSpace
from kinase.api.space import ChainSpace
from kinase.estimation.base import Setting
from kinase.estimation.one_shot import OneShot
from kinase.space import Frame, Space
from kinase.space.chain import Chain
from kinase.space.mobilenet import MobileNet
from kinase.space.sharing import Unshared

OPTIONS = OneShotEstimation.model_validate({"sampling": {"type": "OFA", "ofa": {"sort": False}}})


def one_shot(space: Space) -> OneShot:
    """The estimation of small images."""
    return OneShot(OPTIONS, Setting(Fidelity(epochs=7), space, Frame((3, 16, 16), 10)))


def test_the_supernet_is_shrunk_as_the_manifest_says() -> None:
    relaxation = one_shot(MobileNet(MobileNetSpace())).training.plan.relaxation
    assert relaxation.type == "OFA"
    assert relaxation.form == "slices"
    assert relaxation.single_level
    assert relaxation.ofa is not None
    assert not relaxation.ofa.sort
    assert relaxation.ofa.networks == (1, 2, 4)


def test_a_space_without_a_largest_network_is_refused_before_anything_starts() -> None:
    with pytest.raises(Unshared, match="Chain has none: use Uniform, or the space MobileNet"):
        one_shot(Chain(ChainSpace()))
