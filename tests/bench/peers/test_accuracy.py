"""How far an engine is from float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.checkpoint import random_checkpoint
from bench.peers.accuracy import LAST, TEXTS, Reference, probes, read_rows, relative_error
from bench.work import VOCABULARY, requests

ROWS = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)


def test_equal_rows_have_no_error() -> None:
    assert relative_error(ROWS, ROWS) == 0


def test_a_constant_of_a_row_is_no_error_so_that_log_probabilities_stand_for_logits() -> None:
    shifted = ROWS - np.array([[1.0], [20.0], [-3.0]], dtype=np.float32)

    assert relative_error(shifted, ROWS) == pytest.approx(0, abs=1e-5)


def test_error_is_relative_to_what_the_reference_varies_by() -> None:
    assert relative_error(ROWS * 1.1, ROWS) == pytest.approx(0.1, rel=1e-3)
    assert relative_error(-ROWS, ROWS) == pytest.approx(2, rel=1e-3)


def test_rows_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        relative_error(ROWS[:2], ROWS)


def test_what_an_engine_wrote_is_read_as_rows(tmp_path: Path) -> None:
    rows = np.arange(2 * VOCABULARY, dtype=np.float32)
    (tmp_path / "rows").write_bytes(rows.tobytes())

    assert np.array_equal(read_rows(tmp_path / "rows"), rows.reshape(2, VOCABULARY))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(random_checkpoint("7m", tmp_path_factory.mktemp("checkpoints")))


def test_tokens_that_float32_chose_agree_and_one_that_it_did_not_condemns_no_other(reference: Reference) -> None:
    work = requests(2, "equal", prompt=6, output=3)
    ids = [list[int](), list[int]()]
    for _ in range(3):
        texts = [request.prompt + row for request, row in zip(work, ids, strict=True)]
        for row, logits in zip(ids, reference.logits(texts, 1), strict=True):
            row.append(int(logits.argmax()))
    # The first token of one text, changed; what follows it stays, and is judged after the change.
    changed = [[int(reference.logits([work[0].prompt], 1)[0].argmin())], ids[1]]
    for _ in range(2):
        logits = reference.logits([work[0].prompt + changed[0]], 1)[0]
        changed[0].append(int(logits.argmax()))

    own, other = reference.agreement(work, ids), reference.agreement(work, changed)

    assert (own.share, own.regret) == (1, 0)
    assert other.share == pytest.approx(5 / 6)
    assert other.regret > 0


def test_probes_give_as_many_rows_as_are_compared(reference: Reference) -> None:
    assert reference.logits(probes(), LAST).shape == (TEXTS * LAST, VOCABULARY)
