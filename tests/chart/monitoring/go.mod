// Names Prometheus Operator, whose CRDs the chart's monitors are checked by. Nothing is built.
module kinase.dev/chart/monitoring

go 1.25.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
