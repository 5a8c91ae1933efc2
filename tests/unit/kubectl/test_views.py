"""What is said of experiments and trials."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kinase_kubectl import views
from tests.unit.kubectl.samples import (
    NOW,
    ago,
    condition,
    experiment,
    item,
    searching,
    trial,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (187, "3m7s"),
        (601, "10m"),
        (7200, "2h"),
        (7500, "2h5m"),
        (8 * 3600 + 60, "8h"),
        (86400, "1d"),
        (3 * 86400 + 4 * 3600, "3d4h"),
        (9 * 86400 + 3600, "9d"),
    ],
)
def test_ages_as_kubectl_writes_them(seconds: float, text: str) -> None:
    assert views.age(seconds) == text


def cells(each: views.Experiment, *, wide: bool = False) -> dict[str, str]:
    table = views.listing(views.EXPERIMENTS, [each], NOW, wide=wide)
    return dict(zip(table.head, table.rows[0], strict=True))


def test_a_line_of_one_that_searches() -> None:
    assert cells(experiment(**searching())) == {
        "NAME": "digits",
        "PHASE": "Searching",
        "TRIALS": "24/60",
        "DONE": "40%",
        "RUNNING": "2",
        "BEST": "0.9805",
        "BUDGET LEFT": "34 trials",
        "TIME LEFT": "~3m",
        "AGE": "2m11s",
        "NOTE": "",
    }
    wide = cells(experiment(**searching()), wide=True)
    assert wide["METRIC"] == "val_accuracy"
    assert wide["CONTROL"] == "0.9611"
    assert (wide["STRATEGY"], wide["SPACE"]) == ("Evolution", "Chain")
    assert (wide["EPOCHS"], wide["DEVICES"]) == ("330", "4min12s")


def test_a_line_of_one_that_nobody_has_seen_yet() -> None:
    found = cells(experiment(), wide=True)
    assert found.pop("NAME") == "digits"
    assert found.pop("PHASE") == "Pending"
    assert found.pop("AGE") == "2m11s"
    assert {found.pop("METRIC"), found.pop("STRATEGY"), found.pop("SPACE")} == {
        "val_accuracy",
        "Evolution",
        "Chain",
    }
    assert set(found.values()) == {""}


def limit(name: str, left: float, total: float) -> dict[str, object]:
    return {"name": name, "spent": total - left, "left": left, "total": total}


@pytest.mark.parametrize(
    ("budget", "share", "left"),
    [
        ([limit("epochs", 250, 1000)], 0.75, 40),
        ([limit("duration", 480, 600)], 0.2, 480),
        ([limit("deviceHours", 0.5, 1.0), limit("duration", 60, 180)], 2 / 3, 60),
        # of its two minutes it was suspended for one, which the limit of time does not count
        ([limit("deviceHours", 0.8, 1.0), limit("duration", 540, 600)], 0.2, 240),
        # a trial under way is paid for, but not done: of 60 trials 24 have ended
        ([limit("trials", 0, 60)], 0.4, 180),
        ([limit("epochs", 1000, 1000)], 0.0, None),
        ([], None, None),
    ],
)
def test_how_much_is_done_and_how_long_it_takes_still(
    budget: list[dict[str, object]], share: float | None, left: float | None
) -> None:
    each = experiment(**searching(budget=budget))
    assert each.share() == (None if share is None else pytest.approx(share))
    assert each.left(NOW) == (None if left is None else timedelta(seconds=left))


def test_nothing_is_foretold_of_one_that_does_not_search() -> None:
    assert experiment(**searching(phase="Finalists")).left(NOW) is None
    assert experiment(**searching(phase="Finalists")).share() == 1.0
    assert experiment(spec={"suspend": True}, **searching()).left(NOW) is None
    done = experiment(**searching(conditions=[condition("Succeeded", "True", "Succeeded")]))
    assert done.finished
    assert done.share() == 1.0


@pytest.mark.parametrize(
    ("conditions", "notes"),
    [
        ([condition("Ready", "False", "ControllerStarting")], ""),
        ([condition("Ready", "False", "ImageNotFound")], "ImageNotFound"),
        ([condition("Ready", "True", "Suspended")], ""),
        ([condition("Progressing", "False", "Suspended")], ""),
        ([condition("Progressing", "False", "Finished")], ""),
        ([condition("Progressing", "False", "StoreUnavailable")], "StoreUnavailable"),
        ([condition("Failed", "False", "Unfinished")], ""),
        (
            [condition("Progressing", "False", "Finished"), condition("Failed", "True", "NoNet")],
            "NoNet",
        ),
        (
            [condition("Ready", "False", "Crashing"), condition("Progressing", "False", "Fenced")],
            "Crashing,Fenced",
        ),
    ],
)
def test_what_is_wrong_and_what_only_looks_so(conditions: list[object], notes: str) -> None:
    assert cells(experiment(conditions=conditions))["NOTE"] == notes


def test_a_condition_on_one_line() -> None:
    (wrong,) = experiment(
        conditions=[condition("Progressing", "False", "StoreUnavailable", "it is\n away", 187)]
    ).troubles()
    assert views.trouble_line(wrong, NOW) == "StoreUnavailable for 3m7s: it is away"


def test_one_that_goes_is_called_so() -> None:
    body = item(**searching())
    body["metadata"]["deletionTimestamp"] = ago(1)
    assert views.Experiment.of(body).phase == "Deleting"


def test_the_facts_of_one_that_searches() -> None:
    facts = views.facts(experiment(**searching()), NOW)
    assert facts == [
        ("Name", "digits"),
        ("Namespace", "nas"),
        ("Phase", "Searching"),
        ("Trials", "24/60 ended, 2 running, 2 failed, about 3m left of the search"),
        ("Budget", "34 of 60 trials left"),
        ("Spent", "330 epochs, device time 4 min 12 s"),
        ("Best", "val_accuracy 0.9805, trial 17"),
        ("Control", "val_accuracy 0.9611, trial 3"),
        ("Size", "12,138 parameters, 79,344 multiply-adds"),
        ("Architecture", "layers: conv w32 k3"),
        ("Age", "2m11s"),
    ]


RUNGS = [
    {"rung": 0, "until": 1, "reached": 27, "running": 2, "paused": 18, "promoted": 9},
    {"rung": 1, "until": 3, "reached": 9, "paused": 6, "promoted": 3},
    {"rung": 2, "until": 9, "reached": 2, "running": 1, "stopped": 1},
]


def climbing() -> views.Experiment:
    """One whose trials are trained in rungs, and stopped by their curves."""
    status = searching()
    status["trials"] |= {"paused": 24}
    status["best"] |= {"rung": 2}
    stopping = {"stopped": 40, "spared": 4, "won": 1}
    return experiment(**status, rungs=RUNGS, stopping=stopping)


def test_the_facts_of_one_with_rungs() -> None:
    facts = views.facts(climbing(), NOW)
    said = dict(facts)
    assert "24 paused" in said["Trials"]
    assert "with a result" in said["Trials"]
    assert [text for word, text in facts if word == "Rung"] == [
        "0 (1 epoch): 27 reached; 2 running, 18 paused, 9 promoted",
        "1 (3 epochs): 9 reached; 6 paused, 3 promoted",
        "2 (9 epochs): 2 reached; 1 running, 1 stopped",
    ]
    assert said["Stopping"].startswith(
        "40 trials by the learning curve; an estimated 25.0% of them would have become the best"
    )
    assert said["Best"].startswith("val_accuracy 0.9805, rung 2, trial ")


def test_a_line_of_one_with_rungs() -> None:
    wide = cells(climbing(), wide=True)
    assert (wide["PAUSED"], wide["BEST RUNG"]) == ("24", "2")
    assert wide["TIME LEFT"] == ""  # new trials are cheap, and the promotions follow
    assert wide["DONE"] != "100%"


def test_the_facts_of_one_whose_children_inherit() -> None:
    each = experiment(**searching(weights={"written": 12_345_678, "kept": 999}))
    assert ("Weights", "12.3 MB written for children, 999 B kept") in views.facts(each, NOW)


def test_the_facts_of_one_that_has_ended() -> None:
    facts = dict(
        views.facts(
            experiment(
                **searching(
                    phase="Succeeded",
                    winner={"trial": 61, "value": 0.9972},
                    test={"test_accuracy": 0.9889},
                    completionTime=ago(20),
                    model="s3://nas/x/final",
                    report="s3://nas/x/report.html",
                )
            ),
            NOW,
        )
    )
    assert facts["Winner"] == "val_accuracy 0.9972, test_accuracy 0.9889, trial 61"
    assert facts["Model"] == "s3://nas/x/final"
    assert facts["Age"] == "2m11s, took 100s"


def test_trials_that_are_worth_a_line() -> None:
    ended = [trial(n, made=600 - n) for n in range(8)]
    going = [trial(8, "Running"), trial(9, "Pending")]
    everything = [*ended, *going]

    def shown(most: int) -> list[int]:
        return [int(t.name[-5:]) for t in views.latest(everything, most)]

    assert shown(0) == list(range(10))
    assert shown(20) == list(range(10))
    assert shown(5) == [5, 6, 7, 8, 9]
    assert shown(1) == [8, 9]  # what runs is never hidden


def test_a_trials_line() -> None:
    failed = trial(3, "Failed", reason="OutOfMemory", node="gpu-01", epochs=2, message="no\nmemory")
    table = views.listing(views.TRIALS, [failed], NOW, wide=True)
    line = dict(zip(table.head, table.rows[0], strict=True))
    assert line["REASON"] == "OutOfMemory"
    assert (line["NODE"], line["EPOCHS"], line["VALUE"]) == ("gpu-01", "2", "")
    assert line["MESSAGE"] == "no memory"
    good = trial(1, reason="Completed", startTime=ago(50), completionTime=ago(20), value=0.5)
    table = views.listing(views.TRIALS, [good], NOW, wide=True)
    line = dict(zip(table.head, table.rows[0], strict=True))
    assert (line["REASON"], line["LASTED"], line["VALUE"]) == ("", "30s", "0.5000")


def test_the_status_of_an_earlier_attempt_says_nothing_of_this_one() -> None:
    assert trial(1, "Failed", attempt=1).ended
    again = trial(1, "Failed", attempt=0)
    assert (again.phase, again.ended) == ("Pending", False)


def test_the_books_of_server_side_apply_are_not_shown() -> None:
    tidy = views.tidy(item())
    assert "managedFields" not in tidy["metadata"]
    assert tidy["metadata"]["name"] == "digits"


def test_messages_do_nothing_to_a_terminal() -> None:
    evil = "\x1b[2Jgone\x07\x9b1m"
    safe = "^[[2Jgone^G\ufffd1m"
    (wrong,) = experiment(conditions=[condition("Ready", "False", "Bad", evil)]).troubles()
    assert views.trouble_line(wrong, NOW) == f"Bad for 60s: {safe}"
    each = experiment(**searching(model=evil))
    assert dict(views.facts(each, NOW))["Model"] == safe
    table = views.listing(views.TRIALS, [trial(1, node=evil)], NOW)
    assert safe in table.rows[0]
