"""What this replica has seen of one partner."""

from __future__ import annotations

from sluicegate.server.signals.sketches.campaigns import Campaigns
from sluicegate.server.signals.sketches.distinct import Distinct
from sluicegate.server.signals.sketches.extracts import Extract
from sluicegate.server.signals.sketches.recent import Recent
from sluicegate.server.signals.sketches.sharing import Sharing
from sluicegate.server.signals.sketches.windows import Moment


class Sketch:
    """Fingerprints and counts, in about 240 KiB whatever comes. One thread only; the moment never goes back."""

    def __init__(self) -> None:
        self._prompts = Recent()
        self._outputs = Recent()
        self._campaigns = Campaigns()
        self._distinct = Distinct()
        self._sharing = Sharing()

    def see_prompt(self, fingerprint: int | None, exact: int, moment: Moment) -> bool:
        """Count a prompt; whether it is a near duplicate."""
        self._distinct.see(exact, moment)
        if fingerprint is not None:
            self._campaigns.see(fingerprint, moment)
        return self._prompts.see(fingerprint, moment)

    def see_output(self, fingerprint: int | None, moment: Moment) -> bool:
        """Count an output; whether it is a near duplicate."""
        return self._outputs.see(fingerprint, moment)

    def see_token(self, token: int, network: int, moment: Moment) -> None:
        """Count a use of a token."""
        self._sharing.see(token, network, moment)

    def extract(self, moment: Moment) -> Extract:
        """What of the windows other replicas are told."""
        return Extract(
            self._prompts.extract(moment),
            self._outputs.extract(moment),
            self._campaigns.extract(moment),
            self._distinct.extract(moment),
            self._sharing.extract(moment),
        )
