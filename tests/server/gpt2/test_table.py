from __future__ import annotations

import numpy as np
import pytest
import torch

from sluicegate.server.gpt2.static_draws import RESULT, ROW
from sluicegate.server.gpt2.table import TORCH_TYPES, Table, as_bytes

INNER = np.dtype([("share", np.float64), ("count", np.int32), ("weight", np.float32)])
OUTER = np.dtype([("id", np.int64), ("inner", INNER), ("seed", np.uint64)])


@pytest.fixture
def rows() -> np.ndarray[tuple[int], np.dtype[np.void]]:
    array = np.zeros(3, OUTER)
    array["id"] = [7, -8, 9]
    array["seed"] = [0, 2**64 - 1, 5]
    array["inner"]["share"] = [0.25, -1e300, 3.0]
    array["inner"]["count"] = [-1, 2, 2**31 - 1]
    array["inner"]["weight"] = [0.5, 1.5, -2.5]
    return array


def test_each_field_is_that_of_the_array_however_deep(rows: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
    table = Table(OUTER, torch.from_numpy(as_bytes(rows)))

    assert table["id"].tolist() == rows["id"].tolist()
    assert table["share"].tolist() == rows["inner"]["share"].tolist()
    assert table["count"].tolist() == rows["inner"]["count"].tolist()
    assert table["weight"].tolist() == rows["inner"]["weight"].tolist()
    assert table["seed"].tolist() == rows["seed"].astype(np.int64).tolist()


def test_what_is_written_to_a_field_of_some_rows_is_in_the_bytes_of_all() -> None:
    table = Table.empty(OUTER, 4, torch.device("cpu"))

    table.rows(1, 3)["weight"].copy_(torch.tensor([2.0, 3.0]))

    array = table.data.numpy().view(OUTER)[:, 0]
    assert len(table.rows(1, 3)) == 2
    assert array["inner"]["weight"].tolist() == [0.0, 2.0, 3.0, 0.0]
    assert not array["id"].any()


@pytest.mark.parametrize("dtype", [ROW, RESULT], ids=["ROW", "RESULT"])
def test_our_rows_can_be_tables(dtype: np.dtype[np.void]) -> None:
    table = Table.empty(dtype, 2, torch.device("cpu"))

    assert dtype.itemsize % 8 == 0
    assert all(torch.equal(table[name], torch.zeros(2)) for name in _plain_names(dtype))


def _plain_names(dtype: np.dtype[np.void]) -> list[str]:
    names: list[str] = []
    for name in dtype.names or ():
        field = dtype[name]
        names += _plain_names(field) if field.names else [name]
        assert field.names or field.str[1:] in TORCH_TYPES
    return names
