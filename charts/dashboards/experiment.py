"""'Kinase / Experiment': one search, from its first trial to its last."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from charts.dashboards import shared
from charts.dashboards.panels import (
    BAD,
    EXPERIMENT,
    FAIR,
    GOOD,
    OUTCOMES,
    Panels,
    assemble,
    choice,
    heat,
    lines,
    now,
    number,
    query,
    states,
)

WHERE = 'namespace="$namespace",experiment="$experiment"'


def of(metric: str) -> str:
    """A metric of the experiment that is chosen."""
    return f"{metric}{{{WHERE}}}"


def dashboard() -> Dashboard:
    """The dashboard."""
    return assemble(
        "Kinase / Experiment",
        EXPERIMENT,
        "One neural architecture search.",
        [
            choice("namespace", "Namespace", "label_values(kinase_experiment_info, namespace)"),
            choice(
                "experiment",
                "Experiment",
                'label_values(kinase_experiment_info{namespace="$namespace"}, experiment)',
            ),
        ],
        {
            "Where it is": _status(),
            "Search": _search(),
            "Trials": _trials(),
            "Rungs": _rungs(),
            "Controller and store": _controller(),
        },
    )


def _status() -> Panels:
    return [
        number(
            "Phase",
            "Where the experiment is, in one word.",
            "none",
            now(of("kinase_experiment_phase"), "{{phase}}"),
            named=True,
        ),
        number(
            "Best objective",
            "The best trial's value of the objective's metric.",
            "short",
            now(f"max({of('kinase_experiment_best_objective')})"),
            decimals=4,
        ),
        number(
            "Random control",
            "The best of the trials that are drawn at random: what the strategy must beat.",
            "short",
            now(f"max({of('kinase_experiment_control_objective')})"),
            decimals=4,
        ),
        number(
            "Trials ended",
            "Trials of the search and its control that have ended.",
            "short",
            now(f"sum({of('kinase_experiment_trials')})"),
        ),
        number(
            "Budget left",
            "Of the limit that is nearest to its end. Below 10 % KinaseBudgetNearlySpent fires.",
            "percentunit",
            now(f"min({of('kinase_experiment_budget_left_ratio')})"),
            steps=((None, BAD), (0.1, FAIR), (0.25, GOOD)),
        ),
        number(
            "Device time",
            "Device seconds that its trials have spent, all attempts included.",
            "s",
            now(f"max({of('kinase_experiment_device_seconds_total')})"),
        ),
        number(
            "Last improvement",
            "How long ago the best trial ended, without the time it was paused. Only while its "
            "controller runs.",
            "s",
            now(f"time() - max({of('kinase_last_improvement_timestamp_seconds')})"),
            steps=((None, GOOD), (3 * 3600, FAIR), (6 * 3600, BAD)),
        ),
        number(
            "Duration",
            "From the start to the end of the search.",
            "s",
            now(
                f"(max({of('kinase_experiment_completion_timestamp_seconds')}) or vector(time())) "
                f"- max({of('kinase_experiment_start_timestamp_seconds')})"
            ),
        ),
    ]


def _search() -> Panels:
    return [
        lines(
            "Best objective",
            "The search's best trial so far, and the random control's, which shows what the "
            "strategy is worth.",
            "short",
            query(f"max({of('kinase_experiment_best_objective')})", "best"),
            query(f"max({of('kinase_experiment_control_objective')})", "random control"),
            span=16,
            stepped=True,
            least=None,
            colours={"best": "blue", "random control": FAIR},
        ),
        lines(
            "Budget left",
            "Each limit of the budget, as a share of it.",
            "percentunit",
            query(f"min by (limit) ({of('kinase_experiment_budget_left_ratio')})", "{{limit}}"),
            most=1,
            steps=((None, BAD), (0.1, GOOD)),
        ),
        lines(
            "Device time",
            "Device seconds spent. A trial is charged when it ends.",
            "s",
            query(f"max({of('kinase_experiment_device_seconds_total')})", "spent"),
            stepped=True,
        ),
        lines(
            "Epochs",
            "Training epochs started by finished trials, including lost attempts.",
            "short",
            query(f"max({of('kinase_experiment_epochs_total')})", "epochs"),
            stepped=True,
        ),
        states(
            "Conditions",
            "Why the experiment is paused, if it is: a condition that does not hold, by its "
            "reason. After 15 minutes KinaseExperimentStuck fires.",
            {"0": ("does not hold", "orange"), "1": ("holds", "green")},
            query(
                f"max by (condition, reason) ({of('kinase_experiment_condition')})",
                "{{condition}}: {{reason}}",
            ),
            span=8,
        ).height(8),
    ]


def _trials() -> Panels:
    return [
        lines(
            "Trials by outcome",
            "Trials of the search and its control that have ended. Infeasible ones are a finding; "
            "failed ones crashed too often.",
            "short",
            query(f"sum by (outcome) ({of('kinase_experiment_trials')})", "{{outcome}}"),
            stacked=True,
            stepped=True,
            colours=OUTCOMES,
        ),
        shared.trials_under_way(WHERE),
        lines(
            "Trials ended a minute",
            "By why they are run: search, control, supernet, final, baseline.",
            "short",
            query(
                f"sum by (kind) (rate({of('kinase_trials_total')}[$__rate_interval])) * 60",
                "{{kind}}",
            ),
            stacked=True,
        ),
        heat(
            "Device time of the trials",
            "How many trials ended with how much device time.",
            "s",
            f"sum by (le) (increase({of('kinase_trial_seconds_bucket')}[$__rate_interval]))",
        ),
        shared.device_time(WHERE),
        shared.wait_for_a_pod(WHERE),
    ]


def _rungs() -> Panels:
    def by_rung(state: str) -> str:
        where = f'{WHERE},state="{state}"'
        return f"max by (rung) (kinase_experiment_rung_trials{{{where}}})"

    return [
        lines(
            "Trials that reached a rung",
            "Trials of the search and its control that have come to the end of each rung.",
            "short",
            query(by_rung("Reached"), "rung {{rung}}"),
            stepped=True,
        ),
        lines(
            "Promotions",
            "Trials that were promoted from each rung to the next one.",
            "short",
            query(by_rung("Promoted"), "from rung {{rung}}"),
            stepped=True,
        ),
        lines(
            "Stops",
            "Trials that were stopped in each rung or at its end.",
            "short",
            query(by_rung("Stopped"), "rung {{rung}}"),
            stepped=True,
        ),
        shared.paused_trials(WHERE),
        lines(
            "Epochs by rung",
            "Training epochs spent in each rung.",
            "short",
            query(f"max by (rung) ({of('kinase_experiment_rung_epochs_total')})", "rung {{rung}}"),
            stacked=True,
            stepped=True,
        ),
        lines(
            "Rung of the best trial",
            "Values of different rungs are not comparable: the best trial is one of the highest "
            "rung, so its value can fall when a trial reaches a higher one.",
            "short",
            query(f"max({of('kinase_experiment_best_rung')})", "rung"),
            stepped=True,
        ),
    ]


def _controller() -> Panels:
    return [
        shared.store_seconds(WHERE, span=6),
        shared.store_failures(WHERE, span=6),
        lines(
            "Journal",
            "Entries of the journal: each is a turn of the loop that decided something.",
            "short",
            query(f"max({of('kinase_journal_entries')})", "entries"),
            stepped=True,
            span=6,
        ),
        lines(
            "Memory",
            "Resident memory of the controller.",
            "bytes",
            query(
                "max(process_resident_memory_bytes and on (job, instance) "
                f"{of('kinase_journal_entries')})",
                "controller",
            ),
            span=6,
        ),
    ]
