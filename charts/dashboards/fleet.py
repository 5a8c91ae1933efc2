"""'Kinase / Fleet': all experiments together, and how the operator does."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from charts.dashboards import shared
from charts.dashboards.panels import (
    BAD,
    EXPERIMENT,
    FAIR,
    FLEET,
    GOOD,
    OUTCOMES,
    PHASES,
    Panels,
    Query,
    assemble,
    choice,
    lines,
    now,
    number,
    quantile,
    query,
    row_of,
    rows,
)

WHERE = 'namespace=~"$namespace"'
OPERATOR = 'and on (job, instance) kinase_build_info{component="operator"}'
STUCK = (
    f"min by (namespace, experiment) "
    f'(kinase_experiment_condition{{{WHERE},reason!~"Suspended|Suspending|TrialsPending"}}) == 0'
)
LINK = (
    f"/d/{EXPERIMENT}?var-namespace=${{__data.fields.namespace}}"
    "&var-experiment=${__value.text}&var-datasource=$datasource&${__url_time_range}"
)


def dashboard() -> Dashboard:
    """The dashboard."""
    return assemble(
        "Kinase / Fleet",
        FLEET,
        "All neural architecture searches, and how the operator does.",
        [
            choice(
                "namespace",
                "Namespace",
                "label_values(kinase_experiment_info, namespace)",
                several=True,
            )
        ],
        {
            "Experiments": _experiments(),
            "Trials": _trials(),
            "Operator": _operator(),
            "Store": _store(),
        },
    )


def _experiments() -> Panels:
    active = f'kinase_experiment_phase{{{WHERE},phase=~"Searching|Finalists"}}'
    under_way = f"kinase_experiment_trials_under_way{{{WHERE},phase="
    ended = f"increase(kinase_trials_total{{{WHERE}"
    return [
        number(
            "Experiments under way",
            "Experiments that search or train their finalists.",
            "short",
            now(f"count({active}) or vector(0)"),
            span=4,
        ),
        number(
            "Standing still",
            "Experiments with a condition, Ready or Progressing, that does not hold, suspended "
            "ones apart. After 15 minutes KinaseExperimentStuck fires.",
            "short",
            now(f"count({STUCK}) or vector(0)"),
            steps=((None, GOOD), (1, FAIR)),
            span=4,
        ),
        number(
            "Trials running",
            "Trials whose pod runs.",
            "short",
            now(f'sum({under_way}"Running"}}) or vector(0)'),
            span=4,
        ),
        number(
            "Trials waiting",
            "Trials whose pod waits for a node, an image or a queue.",
            "short",
            now(f'sum({under_way}"Pending"}}) or vector(0)'),
            span=4,
        ),
        number(
            "Device time",
            "Device seconds that trials have spent that ended in the time range shown.",
            "s",
            now(f"sum(increase(kinase_experiment_device_seconds_total{{{WHERE}}}[$__range]))"),
            span=4,
        ),
        number(
            "Trials that failed",
            "Share of the trials that ended in the time range shown: crashed more often than "
            "maxRetries allows.",
            "percentunit",
            now(
                f'sum({ended},outcome="Failed"}}[$__range])) '
                f"/ (sum({ended}}}[$__range])) > 0) or vector(0)"
            ),
            steps=((None, GOOD), (0.1, FAIR), (0.5, BAD)),
            span=4,
        ),
        lines(
            "Experiments by phase",
            "Experiments by the phase in their status.",
            "short",
            query(f"count by (phase) (kinase_experiment_phase{{{WHERE}}})", "{{phase}}"),
            stacked=True,
            stepped=True,
            colours=PHASES,
        ),
        shared.trials_under_way(WHERE),
        lines(
            "Device seconds charged",
            "A second, over ten minutes: about as many as devices are kept busy. A trial is "
            "charged when it ends.",
            "short",
            query(
                "sum by (namespace) "
                f"(rate(kinase_experiment_device_seconds_total{{{WHERE}}}[10m]))",
                "{{namespace}}",
            ),
            stacked=True,
        ),
        rows(
            "All experiments",
            "From their status, including finished ones as long as the object exists. An "
            "experiment's name leads to its dashboard.",
            {
                "phase": (
                    row_of(
                        f"max by (namespace, experiment, phase) "
                        f"(kinase_experiment_phase{{{WHERE}}})"
                    ),
                    "",
                ),
                "Best objective": (_each("max", "best_objective"), "short"),
                "Random control": (_each("max", "control_objective"), "short"),
                "Trials ended": (_each("sum", "trials"), "short"),
                "Budget left": (_each("min", "budget_left_ratio"), "percentunit"),
                "Device time": (_each("max", "device_seconds_total"), "s"),
            },
            link=LINK,
            height=6,
        ),
    ]


def _each(how: str, metric: str) -> Query:
    return row_of(f"{how} by (namespace, experiment) (kinase_experiment_{metric}{{{WHERE}}})")


def _trials() -> Panels:
    return [
        lines(
            "Trials ended a minute",
            "By outcome. Infeasible trials are a finding of the search; failed ones crashed too "
            "often.",
            "short",
            query(
                f"sum by (outcome) (rate(kinase_trials_total{{{WHERE}}}[$__rate_interval])) * 60",
                "{{outcome}}",
            ),
            stacked=True,
            colours=OUTCOMES,
        ),
        shared.device_time(WHERE),
        shared.wait_for_a_pod(WHERE),
        lines(
            "Attempts that were lost a minute",
            "By the reason in the trial's status: rejected by a node, disrupted, given up. They "
            "cost waits, and epochs since the last checkpoint.",
            "short",
            query(
                "sum by (reason) (rate(kinase_operator_attempts_total"
                '{reason=~"Rejected|Disrupted|GivenUp"}[$__rate_interval])) * 60',
                "{{reason}}",
            ),
            stacked=True,
        ),
    ]


def _operator() -> Panels:
    total = "kinase_operator_reconcile_total"
    return [
        number(
            "Version",
            "Version of the operator that runs.",
            "none",
            now('kinase_build_info{component="operator"}', "{{version}}"),
            named=True,
            span=4,
        ),
        number(
            "Objects waiting",
            "Experiments and trials that wait to be reconciled, or are being reconciled.",
            "short",
            now("sum(kinase_operator_queue_length)"),
            steps=((None, GOOD), (100, FAIR), (1000, BAD)),
            span=4,
        ),
        number(
            "NASTrials",
            "NASTrials of all namespaces that the operator keeps in memory, ended ones included.",
            "short",
            now("sum(kinase_trials)"),
            span=4,
        ),
        number(
            "Experiments",
            "NASExperiments of all namespaces, finished ones included.",
            "short",
            now("sum(kinase_experiments)"),
            span=4,
        ),
        number(
            "Memory",
            "Resident memory of the operator.",
            "bytes",
            now(f"sum(process_resident_memory_bytes {OPERATOR})"),
            span=4,
        ),
        number(
            "Runs for",
            "Since the operator's last start.",
            "s",
            now(f"time() - max(process_start_time_seconds {OPERATOR})"),
            span=4,
        ),
        lines(
            "Time of a reconciliation",
            "Quantiles over experiments and trials: mostly the API server's answers to writes.",
            "s",
            *(
                query(quantile(share, "kinase_operator_reconcile_seconds"), name)
                for share, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
            ),
            steps=((None, GOOD), (1, BAD)),
        ),
        lines(
            "Wait in the operator's queue",
            "How long 95 % of the experiments and trials wait for less than until they are "
            "reconciled.",
            "s",
            query(quantile(0.95, "kinase_operator_queue_seconds", by="kind"), "{{kind}}"),
            steps=((None, GOOD), (1, BAD)),
        ),
        lines(
            "Reconciliations",
            "A second, by what is reconciled.",
            "ops",
            query(f"sum by (kind) (rate({total}[$__rate_interval]))", "{{kind}}"),
        ),
        lines(
            "Reconciliations that are tried again",
            "A second, by outcome. Conflicts are daily life; `error` and `unavailable` raise "
            "KinaseReconcileErrors.",
            "ops",
            query(
                f'sum by (outcome) (rate({total}{{outcome!="ok"}}[$__rate_interval]))',
                "{{outcome}}",
            ),
        ),
        lines(
            "Writes",
            "Objects that the operator wrote a second, by verb.",
            "wps",
            query(
                "sum by (verb) (rate(kinase_operator_writes_total[$__rate_interval]))", "{{verb}}"
            ),
            stacked=True,
        ),
        lines(
            "CPU",
            "Cores that the operator uses.",
            "short",
            query(
                f"sum(rate(process_cpu_seconds_total[$__rate_interval]) {OPERATOR})",
                "operator",
            ),
        ),
    ]


def _store() -> Panels:
    return [
        lines(
            "Operations",
            "Operations of all controllers on their stores a second. Trials' own are not in it.",
            "ops",
            query(
                "sum by (operation) "
                f"(rate(kinase_store_operations_total{{{WHERE}}}[$__rate_interval]))",
                "{{operation}}",
            ),
            stacked=True,
        ),
        shared.store_seconds(WHERE),
        shared.store_failures(WHERE),
    ]
