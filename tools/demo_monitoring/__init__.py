"""`make demo-monitoring`: misuse driven through a real server, and what Prometheus and Alertmanager make of it."""
