"""What one front end carries: `python -m bench.frontend`. bench/README.md says what is measured and what is not."""
