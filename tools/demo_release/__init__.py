"""The release of a model from evidence to rollback, on the demo models."""
