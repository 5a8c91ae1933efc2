"""Several objectives in the report: each pair, and the hypervolume over the cost."""

from __future__ import annotations

import math

import pytest

from kinase.api.trial import Kind
from kinase.report import ReportData, named, render_comparison
from kinase.report.anytime import COSTS
from kinase.report.fronts import REFERENCE, frame_of, volumes
from kinase.report.page import document
from kinase.report.styles import log_axis
from kinase.report.tradeoffs import pairs
from tests.unit.report.samples import empty, trial
from tests.unit.report.searches import NASH, search
from tests.unit.report.test_page import Page

ALSO = (("params", "minimize"), ("macs", "minimize"))


def sizes(params: float) -> dict[str, float]:
    return {"params": params, "macs": 10 * params}


def found(*values: tuple[float, float], kind: Kind = Kind.SEARCH, first: int = 0) -> list:
    return [
        trial(first + n, kind, value, architecture={"layers": []}, counts=sizes(params))
        for n, (value, params) in enumerate(values)
    ]


def small(also: tuple = ALSO[:1]) -> ReportData:
    """The front is (0.8, 100) and (0.9, 1000); the box reaches a tenth beyond both."""
    ours = found((0.8, 1000), (0.9, 1000), (0.7, 2000), (0.8, 100))
    theirs = found((0.8, 1000), kind=Kind.CONTROL, first=4)
    return empty(also=also, trials=tuple(ours + theirs))


def test_the_volume_grows_with_the_front() -> None:
    """By hand, in the scaled objectives (value, log of parameters), both 0 at best and 1 at worst.

    Trial 0 is at (1, 1), trial 1 at (0, 1), trial 2 is dominated, trial 3 is at (1, 0)."""
    data = small()
    frame = frame_of(data)
    assert frame is not None
    edge, whole = REFERENCE - 1, REFERENCE**2
    curve = volumes(data, "epochs", frame)
    assert curve.xs == (12, 24, 48)
    areas = [edge * edge, REFERENCE * edge, 2 * REFERENCE * edge - edge * edge]
    assert curve.ys == pytest.approx([area / whole for area in areas])
    control = volumes(data, "epochs", frame, Kind.CONTROL)
    assert (control.xs, control.spent) == ((12,), 12)
    assert control.ys == pytest.approx([edge * edge / whole])


def test_each_pair_of_objectives_is_drawn() -> None:
    drawn = pairs(small(ALSO))
    assert list(drawn) == ["val_accuracy – params", "val_accuracy – macs", "params – macs"]
    figure = drawn["val_accuracy – params"]
    front = next(trace for trace in figure.data if trace.mode == "lines")
    assert list(zip(front.x, front.y, strict=True)) == [(100, 0.8), (1000, 0.9)]
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.yaxis.type is None


def test_the_page_has_them_where_there_are_several_objectives() -> None:
    page = Page(document(small()))
    assert {"objectives", "pairs", "volume"} <= page.ids
    assert list(page.data["figures"]["volume"]) == list(COSTS)
    assert list(page.data["figures"]["pairs"]) == ["val_accuracy – params"]
    one = Page(document(small(also=())))
    assert not {"objectives", "pairs", "volume"} & one.ids


def test_nothing_with_a_value_draws_nothing() -> None:
    lost = empty(also=ALSO, trials=(trial(0, value=None),))
    assert frame_of(lost) is None
    assert "objectives" not in Page(document(lost)).ids


def test_of_one_network_there_is_no_volume_and_of_two_there_is() -> None:
    first, second = found((0.8, 1000), (0.7, 4000))
    one = Page(document(empty(also=ALSO, trials=(first,))))
    assert "pairs" in one.ids
    assert "volume" not in one.ids
    assert "The hypervolume takes two networks that differ in an objective." in one.text
    # the second is dominated: the front is one network, and the box reaches to the worst of both
    data = empty(also=ALSO[:1], trials=(first, second))
    assert {"pairs", "volume"} <= Page(document(data)).ids
    frame = frame_of(data)
    assert frame is not None
    assert frame.scaled(frame.best) == (0, 0)
    assert frame.scaled((-0.7, math.log(4000))) == pytest.approx((1, 1))
    assert volumes(data, "epochs", frame).ys == pytest.approx([1.0])


def test_sizes_have_whole_labels_on_a_logarithmic_axis() -> None:
    axis = pairs(small())["val_accuracy – params"].layout.xaxis
    assert (axis.type, axis.minorloglabels, axis.exponentformat) == ("log", "complete", "SI")
    low, high = (10**end for end in axis.range)
    assert 50 < low < 100
    assert 2000 < high < 4000
    # 1, 2 and 5 of each decade; powers of ten alone over more; even distances within one
    assert [log_axis([1.0, most]).get("dtick") for most in (50, 300, 10**6)] == ["D2", "D2", 1]
    assert "dtick" not in log_axis([100, 300])


def test_searches_of_several_objectives_are_ranked_by_hypervolume() -> None:
    """The others have the better value and the same sizes; with one of eight the parameters their
    front is the better one."""

    def run(values: list[tuple[float, float]], strategy: dict, seed: int) -> ReportData:
        trials = tuple(found(*values))
        return search([], strategy, seed=seed, also=ALSO[:1], trials=trials)

    runs = [run([(0.9, 8000), (0.85, 8000)], {"type": "Random"}, s) for s in range(7)]
    runs += [run([(0.89, 8000), (0.85, 500 + s)], NASH, s) for s in range(7)]
    text = Page(render_comparison(named(runs))).text
    row = text[text.rindex("Beyond chance") :]
    assert "by the hypervolume of its front" in row
    assert "better" in row[: row.rindex("Cost to be as good")]
