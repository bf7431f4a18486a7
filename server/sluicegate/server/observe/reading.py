"""Reads a page of metrics back, as a Prometheus would: for commands that show what servers export.

Whoever wrote the page may be an impostor: it is read into numbers and short labels, or refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from prometheus_client.parser import text_string_to_metric_families

MAX_PAGE_BYTES = 8 << 20
MAX_SERIES = 50_000
MAX_LABEL_CHARS = 255
ACCEPT = "text/plain;version=0.0.4"

_OURS = ("sluicegate_", "gen_ai_server_")
_STARTED = "process_start_time_seconds"

Labels = frozenset[tuple[str, str]]
_NONE: Mapping[Labels, float] = MappingProxyType({})


class NotMetrics(ValueError):
    """The page is not one of a Sluicegate server's metrics."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The series of one page that are Sluicegate's, by name and labels."""

    values: Mapping[str, Mapping[Labels, float]]

    def of(self, name: str) -> Mapping[Labels, float]:
        """The series of a name; none if the page has none."""
        return self.values.get(name, _NONE)

    def by(self, name: str, *labels: str) -> Iterator[tuple[tuple[str, ...], float]]:
        """The series of a name with the values of these labels, `""` for one that is not there."""
        for series, value in self.of(name).items():
            members = dict(series)
            yield tuple(members.get(label, "") for label in labels), value

    def one(self, name: str) -> float | None:
        """The value of a name that has one series; None without it."""
        return next(iter(self.of(name).values()), None)

    @property
    def started(self) -> float | None:
        """When the process began, in Unix seconds: counters of another one count from 0."""
        return self.one(_STARTED)


def read_page(page: bytes) -> Samples:
    """The samples of a page. Raises NotMetrics."""
    values: dict[str, dict[Labels, float]] = {}
    try:
        text = page.decode("utf-8")
        count = 0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name != _STARTED and not sample.name.startswith(_OURS):
                    continue
                count += 1
                if count > MAX_SERIES:
                    raise NotMetrics(f"has more than {MAX_SERIES} series")
                if any(len(value) > MAX_LABEL_CHARS for value in sample.labels.values()):
                    raise NotMetrics(f"has a label of more than {MAX_LABEL_CHARS} characters")
                values.setdefault(sample.name, {})[frozenset(sample.labels.items())] = float(sample.value)
    except NotMetrics:
        raise
    except Exception as error:  # the parser's word for a malformed page is any of many: a border
        raise NotMetrics("is no page of metrics") from error
    if not values.keys() - {_STARTED}:
        raise NotMetrics("has no metrics of a Sluicegate server")
    return Samples(values)
