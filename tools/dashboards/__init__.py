"""The Grafana dashboards as code: `python -m tools.dashboards` writes them, `--check` tells whether they are fresh.

Made with grafana-foundation-sdk for Grafana 11.6. panels.py has the kinds of panel, frame.py what all dashboards share,
limits.py takes the lines that panels draw out of the alerts, and there is a module for each dashboard.
"""
