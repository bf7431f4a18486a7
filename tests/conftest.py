"""What holds for every test."""

from __future__ import annotations

import os

import hypothesis
import pytest

# What whoever runs the tests has set for servers of their own is not for these, nor for the programs that they start.
for _name in [name for name in os.environ if name.startswith("SLUICEGATE_")]:
    del os.environ[_name]

# Suites that several test files share are modules of tests/support; their assertions must explain themselves, too, and
# pytest has to know of them before any of those files is imported.
pytest.register_assert_rewrite(
    "state_ledger_suite", "state_withdrawals_suite", "state_random_suite", "state_kill_suite"
)

# No example fails for being slow: the machine may be busy with something else.
hypothesis.settings.register_profile("sluicegate", deadline=None)
hypothesis.settings.load_profile("sluicegate")
