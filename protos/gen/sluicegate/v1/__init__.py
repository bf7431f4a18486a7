"""Generated stubs of package sluicegate.v1."""
