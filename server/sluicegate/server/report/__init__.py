"""`sluicegate report`: transparency figures of a period, from verified audit logs. See docs/report.md."""
