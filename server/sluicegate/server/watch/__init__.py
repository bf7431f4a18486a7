"""`sluicegate watch`: what servers export, live in a terminal. See docs/watch.md."""
