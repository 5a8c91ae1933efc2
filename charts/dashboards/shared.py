"""Panels of both dashboards: `where` are the labels that select the trials."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from charts.dashboards.panels import BAD, GOOD, PHASES, Query, lines, quantile, query


def _half_and_most(histogram: str, where: str) -> list[Query]:
    """Two quantiles of a histogram."""
    return [
        query(quantile(share, histogram, where), name)
        for share, name in ((0.5, "half"), (0.95, "95 %"))
    ]


def trials_under_way(where: str) -> timeseries.Panel:
    """How many trials run, and how many wait."""
    return lines(
        "Trials under way",
        "Trials whose pod runs, or waits for a node, an image or a queue.",
        "short",
        query(f"sum by (phase) (kinase_experiment_trials_under_way{{{where}}})", "{{phase}}"),
        stacked=True,
        stepped=True,
        colours=PHASES,
    )


def paused_trials(where: str) -> timeseries.Panel:
    """How many trials wait to be trained further."""
    return lines(
        "Paused trials",
        "Trials that have a value and wait to be trained further. They hold no slot and no GPU; "
        "their checkpoints stay in the store.",
        "short",
        query(f"sum(kinase_experiment_trials_paused{{{where}}})", "paused"),
        stepped=True,
    )


def device_time(where: str) -> timeseries.Panel:
    """What trials cost."""
    return lines(
        "Device time of a trial",
        "Quantiles over the trials that ended, all attempts of each together.",
        "s",
        *_half_and_most("kinase_trial_seconds", where),
    )


def wait_for_a_pod(where: str) -> timeseries.Panel:
    """How long an attempt waits."""
    return lines(
        "Wait for a pod",
        "From the request of an attempt to the start of its pod, including queue and image.",
        "s",
        *_half_and_most("kinase_trial_queue_seconds", where),
    )


def store_seconds(where: str, span: int = 8) -> timeseries.Panel:
    """How quick the store is."""
    return lines(
        "Time of an operation on the store",
        "What 95 % of the operations of controllers take less than.",
        "s",
        query(
            quantile(0.95, "kinase_store_operation_seconds", where, by="operation"),
            "{{operation}}",
        ),
        span=span,
    )


def store_failures(where: str, span: int = 8) -> timeseries.Panel:
    """What the store refuses, or does not answer."""
    failed = f'kinase_store_operations_total{{{where},outcome!="ok"}}'
    return lines(
        "Operations that failed",
        "A second, after the client's own retries; KinaseStoreErrors fires if they persist.",
        "ops",
        query(f"sum by (outcome) (rate({failed}[$__rate_interval]))", "{{outcome}}"),
        steps=((None, GOOD), (0.01, BAD)),
        span=span,
    )
