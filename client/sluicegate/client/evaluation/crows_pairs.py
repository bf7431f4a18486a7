"""Loader for CrowS-Pairs (Nangia et al. 2020), from the file that the user supplies.

`crows_pairs_anonymized.csv`: the columns `sent_more`, the sentence that stereotypes more, `sent_less`,
`stereo_antistereo`, and `bias_type`, one of nine; others are not read. Which sentence is which does not depend on
`stereo_antistereo`: it says whether the disadvantaged group is in the first of them or in the second.
"""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.data_files import DataFile
from sluicegate.client.evaluation.suites import Pair, Suite

NAME = "crows-pairs"
_COLUMNS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
BIAS_TYPES = frozenset(
    {
        "age",
        "disability",
        "gender",
        "nationality",
        "physical-appearance",
        "race-color",
        "religion",
        "sexual-orientation",
        "socioeconomic",
    }
)


def crows_pairs(files: Sequence[DataFile]) -> Suite:
    """A pair is a row; its category the bias type. Rows with two equal sentences are left out. Raises FileRefused."""
    if len(files) != 1:
        raise FileRefused("CrowS-Pairs is one file: crows_pairs_anonymized.csv")
    [file] = files
    pairs = []
    left_out = 0
    for number, (line, (more, less, direction, bias_type)) in enumerate(file.table(",", _COLUMNS, is_quoted=True)):
        if direction not in ("stereo", "antistereo"):
            raise file.refused(line, "stereo_antistereo is stereo or antistereo")
        if bias_type not in BIAS_TYPES:
            raise file.refused(line, f"bias_type is one of {', '.join(sorted(BIAS_TYPES))}")
        if more == less:
            left_out += 1
            continue
        pairs.append(Pair(f"row-{number}", bias_type, file.sentence(line, more), file.sentence(line, less)))
    if not pairs:
        raise FileRefused(f"{file.path} has no rows")
    return Suite(NAME, tuple(pairs), (file.sha256,), left_out)
