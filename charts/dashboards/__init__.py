"""The Grafana dashboards in code; `python -m charts.dashboards FOLDER` writes them as JSON."""
