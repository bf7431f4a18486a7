"""Who may call what: token verification, the release plan, partner agreements and the decision."""

from sluicegate.auth.errors import (
    AuthenticationError,
    AuthError,
    ConfigurationError,
    IssuingError,
    KeySetError,
    PolicyError,
    Problem,
)
from sluicegate.auth.grant import AccessRequest, CheckOutcome, Denied, Grant, Quotas
from sluicegate.auth.principal import (
    Audience,
    AuthorizationDetail,
    Peer,
    Principal,
    anonymous,
    certificate_thumbprint,
)
from sluicegate.auth.reasons import Reason

__all__ = [
    "AccessRequest",
    "Audience",
    "AuthError",
    "AuthenticationError",
    "AuthorizationDetail",
    "CheckOutcome",
    "ConfigurationError",
    "Denied",
    "Grant",
    "IssuingError",
    "KeySetError",
    "Peer",
    "PolicyError",
    "Principal",
    "Problem",
    "Quotas",
    "Reason",
    "anonymous",
    "certificate_thumbprint",
]
