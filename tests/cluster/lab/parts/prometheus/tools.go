//go:build tools

// Package tools names Prometheus and its tool, so that go.mod holds what they need.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
