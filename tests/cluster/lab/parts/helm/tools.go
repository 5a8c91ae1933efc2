//go:build tools

// Package tools names Helm, so that go.mod holds what it needs.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
