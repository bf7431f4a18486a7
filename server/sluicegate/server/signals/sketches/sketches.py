"""What all replicas have seen of all partners: this one's own sketches, and the extracts of the others'."""

from __future__ import annotations

import hashlib

import structlog

from sluicegate.server.signals.sketches.errors import ExtractInvalid
from sluicegate.server.signals.sketches.extracts import Extract, decode, encode
from sluicegate.server.signals.sketches.figures import Crossing, Figures, crossing, figures
from sluicegate.server.signals.sketches.fingerprints import Fingerprints
from sluicegate.server.signals.sketches.sketch import Sketch
from sluicegate.server.signals.sketches.windows import Moment, moment

OTHER = "other"
PARTNERS = 1_024
"""With sketches of their own; what comes of any more counts for OTHER.

One takes 234 kB once all is remembered that can be, so all take 240 MB; with a flood of shared tokens, 1 MB each.
"""
EXTRACTS = 1_024
"""Of other replicas, at 58 KiB at most; beyond that, the one that was longest not renewed makes room."""
SOURCES = 32
"""Of these, for one partner: adding them up takes a second at worst, whatever is in them."""
CROSSING_SECONDS = 60.0
"""What repeats across the replicas is found no more often for one partner; its figures in between go on with that."""
LONGEST_NAME = 255
BACK_HOURS = 1
"""A clock that goes back by less stands still until it has caught up; if by more, all that was seen is forgotten."""

log = structlog.get_logger()


class Sketches:
    """One thread only. `now` is Unix seconds; `partner` comes from a closed set.

    No text, token or network is kept: hashes under the salt, and counts, for a day at most.
    """

    def __init__(self, salt: bytes) -> None:
        self._fingerprints = Fingerprints(salt)
        self._latest = Moment(0, 0)
        self._own: dict[str, Sketch] = {}
        self._others: dict[tuple[str, str], Extract] = {}  # by source and partner, from the longest unrenewed
        self._touched: set[str] = set()  # partners whose extract is older than their sketch
        self._extracts: dict[str, Extract] = {}
        self._told: dict[str, bytes] = {}  # digests
        self._untold: dict[str, bytes] = {}
        self._stale: set[str] = set()  # partners whose figures are older than their extracts
        self._figures: dict[str, Figures] = {}
        self._crossed: dict[str, tuple[float, Crossing]] = {}  # when that was found, in Unix seconds
        self._slid_to = Moment(0, 0)
        self._has_told_of_more = False

    def see_prompt(self, partner: str, text: str, now: float) -> bool:
        """Count a prompt; whether it is a near duplicate of one that this replica saw in the last hour."""
        at = self._moment(now)
        fingerprint, exact = self._fingerprints.of_text(text), self._fingerprints.exact(text)
        return self._sketch(partner).see_prompt(fingerprint, exact, at)

    def see_output(self, partner: str, text: str, now: float) -> bool:
        """Count an output; whether it is a near duplicate of one that this replica saw in the last hour."""
        at = self._moment(now)
        return self._sketch(partner).see_output(self._fingerprints.of_text(text), at)

    def see_token(self, partner: str, token: bytes, network: bytes, now: float) -> None:
        """Count a use of a token, named by bytes that are no other token's, from a network."""
        at = self._moment(now)
        token_hash, network_hash = self._fingerprints.of_token(token), self._fingerprints.of_network(network)
        self._sketch(partner).see_token(token_hash, network_hash, at)

    def changed(self, now: float) -> dict[str, bytes]:
        """The extract of each partner that has another than when this was last asked: for the other replicas."""
        found = {partner: self.changed_of(partner, now) for partner in self.untold(now)}
        return {partner: data for partner, data in found.items() if data is not None}

    def untold(self, now: float) -> list[str]:
        """The partners of whom `changed_of` may have something."""
        self._slide(self._moment(now))
        return sorted(self._touched | self._untold.keys())

    def changed_of(self, partner: str, now: float) -> bytes | None:
        """The partner's extract, if it is another than when this was last asked."""
        self._renew(partner, self._moment(now))
        return self._untold.pop(partner, None)

    def absorb(self, source: str, partner: str, data: bytes) -> None:
        """Take what another replica has seen of a partner in the place of what it said before.

        Raises ExtractInvalid, and keeps what it said before. Never give a replica's own: that would count twice.
        """
        if len(source) > LONGEST_NAME or len(partner) > LONGEST_NAME:
            raise ExtractInvalid("of a source or a partner with too long a name")
        extract = decode(data)
        self._others.pop((source, partner), None)
        self._others[source, partner] = extract
        self._stale.add(partner)
        of_partner = [key for key in self._others if key[1] == partner]
        if len(of_partner) > SOURCES:
            del self._others[of_partner[0]]
        if len(self._others) > EXTRACTS:
            oldest = next(iter(self._others))
            del self._others[oldest]
            self._stale.add(oldest[1])

    def figures(self, now: float) -> dict[str, Figures]:
        """The figures of every partner of whom some replica has seen something within the windows."""
        return {partner: self.figures_of(partner, now) for partner in self.partners(now)}

    def partners(self, now: float) -> list[str]:
        """All partners with figures, once what has left the windows is forgotten."""
        at = self._moment(now)
        self._slide(at)
        for partner in self._touched & self._over(at):
            self._renew(partner, at)
        known = {*self._own, *(partner for _, partner in self._others)}
        self._figures = {partner: each for partner, each in self._figures.items() if partner in known}
        self._crossed = {partner: each for partner, each in self._crossed.items() if partner in known}
        self._stale &= known
        return sorted(known)

    def figures_of(self, partner: str, now: float) -> Figures:
        """The figures of one partner: all zero if nobody has seen anything within the windows."""
        at = self._moment(now)
        self._slide(at)
        self._renew(partner, at)
        if partner in self._figures and partner not in self._stale:
            return self._figures[partner]
        extracts = [extract for (_, each), extract in self._others.items() if each == partner]
        if partner in self._extracts:
            extracts.append(self._extracts[partner])
        found_at, crossed = self._crossed.get(partner, (now, Crossing()))
        if len(extracts) <= 1:
            crossed = Crossing()
            self._stale.discard(partner)
        elif partner not in self._crossed or not 0 <= now - found_at < CROSSING_SECONDS:
            crossed = crossing(extracts, at)
            self._crossed[partner] = now, crossed
            self._stale.discard(partner)
        self._figures[partner] = figures(extracts, crossed, at)
        return self._figures[partner]

    def _moment(self, now: float) -> Moment:
        """The moment of a time, or the latest one where the clock has gone back by a little."""
        at = moment(now)
        if at.hour + BACK_HOURS < self._latest.hour:
            self._own.clear()
            self._touched.clear()
            self._extracts.clear()
            self._latest = at
        if at.part > self._latest.part:
            self._latest = at
        return self._latest

    def _sketch(self, partner: str) -> Sketch:
        """The partner's sketch, which is about to change."""
        if partner not in self._own and len(self._own) >= PARTNERS:
            if not self._has_told_of_more:
                self._has_told_of_more = True
                log.warning("signals_of_more_partners_than_sketches", sketches=PARTNERS, counted_as=OTHER)
            partner = OTHER
        self._touched.add(partner)
        if partner not in self._own:
            self._own[partner] = Sketch()
        return self._own[partner]

    def _over(self, at: Moment) -> set[str]:
        """The partners of whom this replica's last extract has left the windows."""
        return {partner for partner, extract in self._extracts.items() if extract.is_over(at)}

    def _slide(self, at: Moment) -> None:
        """Note what a new moment changes, and forget what others have told and has left the windows."""
        if at != self._slid_to:
            self._slid_to = at
            self._others = {key: extract for key, extract in self._others.items() if not extract.is_over(at)}
            self._touched.update(self._own)
            self._stale.update(self._extracts, (partner for _, partner in self._others))

    def _renew(self, partner: str, at: Moment) -> None:
        """Renew the extract of a partner, if its sketch has changed; forget it if it has left the windows."""
        if partner not in self._touched:
            return
        extract = self._own[partner].extract(at)
        data = encode(extract)
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if self._told.get(partner) != digest:
            self._told[partner], self._untold[partner] = digest, data
        self._extracts[partner] = extract
        self._stale.add(partner)
        if extract.is_over(at):
            del self._own[partner], self._extracts[partner], self._told[partner]
        self._touched.discard(partner)
