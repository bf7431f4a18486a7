"""Reads the server's metrics, as Prometheus would."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Figures:
    """One reading, in Prometheus' text format."""

    text: str

    def total(self, name: str, **labels: str) -> float:
        """The sum of this metric's samples that have these labels; 0 where there is none."""
        return sum(
            float(value)
            for found, pairs, value in _SAMPLE.findall(self.text)
            if found == name and labels.items() <= dict(_LABEL.findall(pairs)).items()
        )

    def lines(self, name: str) -> list[str]:
        """This metric's samples that are not 0, as they stand in the text."""
        samples = [line for line in self.text.splitlines() if line.startswith((name + "{", name + " "))]
        return [line for line in samples if not line.endswith(" 0.0")]


def read_figures(address: str) -> Figures:
    """The metrics served at HOST:PORT. Raises OSError if nobody answers."""
    connection = HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return Figures(connection.getresponse().read().decode("utf-8"))
    except HTTPException as error:
        raise OSError(f"{address} does not speak HTTP") from error
    finally:
        connection.close()
