"""Hot reload: whole or not at all, never half-written, a bad change told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import evidence_files as made
import pytest
from policies import Document, agreement, contents, policy, release, write_policy
from signers import TRUST, signed_plan

from sluicegate.auth import Policy, PolicyError, PolicyWatch, Problem, TrustRoot
from sluicegate.auth.watch import SETTLE_SECONDS


class Watched:
    """A watch over a directory, what it told, and what happens between its two readings."""

    def __init__(self, directory: Path, trust: TrustRoot | None = None) -> None:
        self.changes: list[str] = []
        self.failures: list[Sequence[Problem]] = []
        self.while_settling: Callable[[], object] = lambda: None
        self.watch = PolicyWatch(
            directory, trust, on_change=self._changed, on_failure=self.failures.append, sleep=self._sleep
        )

    def _changed(self, policy: Policy) -> None:
        assert self.watch.current is policy
        self.changes.append(policy.stage.id)

    async def _sleep(self, seconds: float) -> None:
        assert seconds == SETTLE_SECONDS
        self.while_settling()

    @property
    def stage(self) -> str:
        return self.watch.current.stage.id

    @property
    def told(self) -> list[list[str]]:
        return [[str(problem) for problem in problems] for problems in self.failures]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "policy")


async def test_a_good_change_takes_effect(directory: Path) -> None:
    watched = Watched(directory)
    write_policy(directory, release(active="s1"))

    await watched.watch.check()

    assert (watched.stage, watched.changes, watched.failures) == ("s1", ["s1"], [])


async def test_nothing_is_told_while_nothing_changes(directory: Path) -> None:
    watched = Watched(directory)

    await watched.watch.check()
    (directory / "release.yaml").write_bytes(contents()["release.yaml"] + b"# a comment\n")
    await watched.watch.check()

    assert (watched.changes, watched.failures) == ([], [])


async def test_a_bad_change_keeps_the_revision_and_is_told_once(directory: Path) -> None:
    watched = Watched(directory)
    before = watched.watch.current
    write_policy(directory, release(active="s9"))

    await watched.watch.check()
    await watched.watch.check()

    assert watched.watch.current is before
    assert watched.told == [["release.yaml: active: no such stage; the plan has s1, s2, s3"]]
    assert watched.watch.problems == watched.failures[0]


async def test_another_bad_change_is_told_again(directory: Path) -> None:
    watched = Watched(directory)

    for active in ("s8", "s9"):
        write_policy(directory, release(active=active, flavour=active))
        await watched.watch.check()

    assert len(watched.failures) == 2


async def test_one_bad_file_keeps_a_good_change_of_another_out(directory: Path) -> None:
    watched = Watched(directory)
    write_policy(directory, release(active="s1"), agreement(status="on"))

    await watched.watch.check()

    assert watched.stage == "s2"
    assert watched.told == [
        ["agreements/0.yaml: status: must be 'draft', 'active', 'suspended' or 'terminated'"],
    ]


async def test_a_change_taken_back_is_no_problem_any_more(directory: Path) -> None:
    watched = Watched(directory)
    write_policy(directory, release(active="s9"))
    await watched.watch.check()
    write_policy(directory)

    await watched.watch.check()

    assert (watched.watch.problems, watched.changes) == ((), [])


async def test_a_good_change_follows_a_bad_one(directory: Path) -> None:
    watched = Watched(directory)
    write_policy(directory, release(active="s9"))
    await watched.watch.check()
    write_policy(directory, release(active="s3"))

    await watched.watch.check()

    assert (watched.stage, watched.changes, watched.watch.problems) == ("s3", ["s3"], ())


async def test_a_file_that_is_being_written_is_waited_for(directory: Path) -> None:
    watched = Watched(directory)
    whole = contents(release(active="s3"))["release.yaml"]
    (directory / "release.yaml").write_bytes(whole[:200])
    watched.while_settling = lambda: (directory / "release.yaml").write_bytes(whole)

    await watched.watch.check()

    assert (watched.stage, watched.failures) == ("s2", [])

    watched.while_settling = lambda: None
    await watched.watch.check()

    assert (watched.stage, watched.failures) == ("s3", [])


async def test_a_half_written_file_that_stays_is_told_once_and_changes_nothing(directory: Path) -> None:
    watched = Watched(directory)
    (directory / "release.yaml").write_bytes(contents()["release.yaml"][:200])

    await watched.watch.check()
    await watched.watch.check()

    assert (watched.stage, len(watched.failures)) == ("s2", 1)


async def test_a_deleted_plan_closes_and_opens_nothing(directory: Path) -> None:
    watched = Watched(directory)
    (directory / "release.yaml").unlink()

    await watched.watch.check()
    await watched.watch.check()

    assert watched.stage == "s2"
    assert watched.told == [["release.yaml: cannot be read: No such file or directory"]]


async def test_a_deleted_agreement_ends(directory: Path) -> None:
    write_policy(directory, None, agreement())
    watched = Watched(directory)
    (directory / "agreements" / "0.yaml").unlink()

    await watched.watch.check()

    assert watched.watch.current.agreements == {}


def config_map(root: Path, generation: str, plan: Document | None, *agreements: Document) -> Path:
    """The files of one generation and the `..data` link to them, as a kubelet writes them."""
    write_policy(root / f"..{generation}", plan, *agreements)
    new = root / "..data_tmp"
    new.symlink_to(f"..{generation}")
    new.replace(root / "..data")
    for name in ("release.yaml", "agreements"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"..data/{name}")
    return root


async def test_a_config_map_swap_is_taken_over_whole(tmp_path: Path) -> None:
    root = config_map(tmp_path, "2026_01", None, agreement())
    watched = Watched(root)
    config_map(root, "2026_02", release(active="s3"))

    await watched.watch.check()

    assert (watched.changes, watched.watch.current.agreements) == (["s3"], {})


async def test_the_two_sides_of_a_config_map_swap_are_never_mixed(tmp_path: Path) -> None:
    root = config_map(tmp_path, "2026_01", None, agreement())
    watched = Watched(root)
    (root / "..2026_01" / "agreements" / "0.yaml").rename(root / "..2026_01" / "agreements" / "1.yaml")
    watched.while_settling = lambda: config_map(root, "2026_02", release(active="s3"))

    await watched.watch.check()

    assert (watched.changes, watched.failures) == ([], [])

    watched.while_settling = lambda: None
    await watched.watch.check()

    assert watched.changes == ["s3"]


def test_there_is_no_watch_without_a_first_revision(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        Watched(tmp_path)


async def test_it_looks_at_its_interval_until_cancelled(directory: Path) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    watch = PolicyWatch(
        directory,
        None,
        on_change=lambda policy: None,
        on_failure=lambda problems: None,
        interval_seconds=7.0,
        sleep=sleep,
    )

    with pytest.raises(asyncio.CancelledError):
        await watch.run()
    assert slept == [7.0, 7.0, 7.0]


# --- where signatures are checked


async def test_a_signed_transition_is_taken_over(tmp_path: Path) -> None:
    watched = Watched(write_policy(tmp_path, signed_plan(("s1", "s2"))), TRUST)
    write_policy(tmp_path, signed_plan(("s1", "s2"), ("s2", "s3")))

    await watched.watch.check()

    assert watched.changes == ["s3"]


async def test_an_unsigned_opening_is_refused(tmp_path: Path) -> None:
    watched = Watched(write_policy(tmp_path, signed_plan(("s1", "s2"))), TRUST)
    write_policy(tmp_path, signed_plan(("s1", "s2"), active="s3"))

    await watched.watch.check()

    assert watched.stage == "s2"
    assert watched.told == [["release.yaml: active: no signed transition leads from s2 to s3"]]


async def test_closing_is_taken_over_unsigned_also_with_its_transitions_deleted(tmp_path: Path) -> None:
    watched = Watched(write_policy(tmp_path, signed_plan(("s1", "s2"))), TRUST)
    write_policy(tmp_path, signed_plan())

    await watched.watch.check()

    assert watched.changes == ["s1"]


def test_a_policy_can_be_asked_about_before_its_files_are_there(tmp_path: Path) -> None:
    watch = Watched(write_policy(tmp_path, signed_plan(("s1", "s2"), ("s2", "s1"))), TRUST).watch

    reused = policy(signed_plan(("s1", "s2")), trust=TRUST)
    signed_anew = policy(signed_plan(("s1", "s2"), ("s2", "s1"), ("s1", "s2")), trust=TRUST)

    problem = watch.widening_problem(reused)
    assert problem is not None
    assert (problem.file, problem.field) == ("release.yaml", "active")
    assert watch.widening_problem(signed_anew) is None


async def test_other_evidence_is_taken_over_though_the_revision_is_the_same(directory: Path) -> None:
    watched = Watched(directory)
    before = watched.watch.current

    path = made.write(directory / "evidence", "bias.json", made.bias("gpt2-774m"))
    await watched.watch.check()
    path.write_text("{}")
    await watched.watch.check()

    after = watched.watch.current
    assert (watched.changes, watched.failures) == (["s2", "s2"], [])
    assert after.revision == before.revision
    assert (after.evidence.files, list(after.evidence.unusable)) == ((), ["bias.json"])


async def test_evidence_that_cannot_be_read_is_told_and_keeps_the_revision(directory: Path) -> None:
    watched = Watched(directory)

    (directory / "evidence").write_text("no directory")
    await watched.watch.check()
    await watched.watch.check()

    assert watched.told == [["evidence: evidence cannot be read: Not a directory"]]
