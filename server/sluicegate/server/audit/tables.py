"""Entries as rows for people and spreadsheets, and as lines for programs."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from typing import IO

import msgspec

from sluicegate.server.audit.entries import KINDS, Checkpoint, Closing, Header, Opening, Rotation
from sluicegate.server.audit.form import Record
from sluicegate.server.audit.problems import Report

_OWN = ("replica", "log", "n", "at", "kind")
_CHAIN = (Header, Checkpoint, Rotation)
COLUMNS = (
    *_OWN,
    *dict.fromkeys(each.name for kind in KINDS.values() if kind not in _CHAIN for each in fields(kind)),
)
"""Of a CSV file: those of all kinds but the chain's own, in the order of entries.py."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def is_of_the_chain(record: Record) -> bool:
    """Whether the entry is there for the log's sake only."""
    return isinstance(record.entry, _CHAIN)


def as_members(report: Report, record: Record) -> dict[str, object]:
    """The record as JSON shows it, with the log it is from."""
    entry = {**msgspec.to_builtins(record.entry), "kind": record.kind, "n": record.number, "at": record.at}
    return {"log": report.log, "replica": report.replica, "entry": entry, "hash": record.hash.hex()}


def text_row(report: Report, record: Record) -> str:
    """One line for a terminal."""
    match record.entry:
        case Opening() as opening:
            what = (
                f"{opening.call} {opening.decision} {opening.reason or opening.code} {opening.partner}"
                f" {opening.action}:{opening.model} reserved={opening.reserved_tokens}"
            )
        case Closing() as closing:
            end = closing.finish or closing.reason or closing.code
            what = f"{closing.call} {end} tokens={closing.emitted_tokens} {closing.duration_ms} ms"
        case other:
            what = " ".join(f"{name}={cell(value)}" for name, value in msgspec.to_builtins(other).items())
    return f"{record.at}  {report.replica}  {record.kind:<11}  {what}"


class CsvRows:
    """Writes CSV. Entries that are there for the log's sake only are left out."""

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.DictWriter(file, COLUMNS)
        self._writer.writeheader()

    def write(self, report: Report, record: Record) -> None:
        if is_of_the_chain(record):
            return
        members = msgspec.to_builtins(record.entry)
        own = (report.replica, report.log, record.number, record.at, record.kind)
        row = {**members, **dict(zip(_OWN, own, strict=True))}
        self._writer.writerow({name: cell(value) for name, value in row.items()})


class JsonLines:
    """Writes one JSON object a line, each entry as it stands in the log."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, report: Report, record: Record) -> None:
        self._file.write(json.dumps(as_members(report, record)) + "\n")


def cell(value: object) -> object:
    """A value for a spreadsheet, which must not take it for a formula (OWASP, "CSV Injection")."""
    match value:
        case None:
            return ""
        case list() | tuple():
            return cell(" ".join(map(str, value)))
        case dict():
            return cell(" ".join(f"{name}={count}" for name, count in value.items()))
        case str() if value.startswith(_FORMULA):
            return f"'{value}"
        case _:
            return value
