"""Who may call what: token verification, the release plan, partner agreements and the decision."""

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.certificates import certificate_names, certificate_problems
from sluicegate.auth.claiming import Claim
from sluicegate.auth.claims import LEEWAY_SECONDS
from sluicegate.auth.decision import CallerIdentity
from sluicegate.auth.discovery import OidcDiscovery
from sluicegate.auth.errors import (
    AuthenticationError,
    AuthError,
    ConfigurationError,
    IssuingError,
    KeySetError,
    KeySetNotFound,
    PolicyError,
    Problem,
)
from sluicegate.auth.grant import AccessRequest, CheckOutcome, Denied, Grant, Quotas
from sluicegate.auth.issuing import (
    SigningKey,
    add_to_key_set,
    create_signing_key,
    issue_token,
    read_signing_key,
    write_signing_key,
)
from sluicegate.auth.jwk import ALGORITHMS, VerificationKey, parse_key_set
from sluicegate.auth.keys import JwksFile, JwksUrl, KeyRing, KeySetOrigin
from sluicegate.auth.loading import load_policy
from sluicegate.auth.policy import Policy
from sluicegate.auth.principal import (
    Audience,
    AuthorizationDetail,
    Peer,
    Principal,
    anonymous,
    certificate_thumbprint,
)
from sluicegate.auth.reasons import Reason
from sluicegate.auth.release import ModelEntry, ReleasePlan, Requirement, Stage, Transition
from sluicegate.auth.reporting import Standing
from sluicegate.auth.requirements import Judgement, RequirementState, judge, stage_requirements
from sluicegate.auth.scopes import required as required_scope
from sluicegate.auth.signatures import (
    TrustRoot,
    agreement_payload,
    internal_client_payload,
    lifting_payload,
    must_be_signed,
    plan_digest,
    sign,
    signers_of,
    transition_payloads,
    trust_root,
)
from sluicegate.auth.tokens import KeySource, TokenVerifier, TrustedIssuer, bearer
from sluicegate.auth.watch import PolicyWatch
from sluicegate.auth.withdrawals import IssuedBefore, Withdrawals

__all__ = [
    "ALGORITHMS",
    "LEEWAY_SECONDS",
    "AccessRequest",
    "Agreement",
    "Audience",
    "AuthError",
    "AuthenticationError",
    "AuthorizationDetail",
    "CallerIdentity",
    "CheckOutcome",
    "Claim",
    "ConfigurationError",
    "Denied",
    "Grant",
    "IssuedBefore",
    "IssuingError",
    "Judgement",
    "JwksFile",
    "JwksUrl",
    "KeyRing",
    "KeySetError",
    "KeySetNotFound",
    "KeySetOrigin",
    "KeySource",
    "ModelEntry",
    "OidcDiscovery",
    "Peer",
    "Policy",
    "PolicyError",
    "PolicyWatch",
    "Principal",
    "Problem",
    "Quotas",
    "Reason",
    "ReleasePlan",
    "Requirement",
    "RequirementState",
    "SigningKey",
    "Stage",
    "Standing",
    "TokenVerifier",
    "Transition",
    "TrustRoot",
    "TrustedIssuer",
    "VerificationKey",
    "Withdrawals",
    "add_to_key_set",
    "agreement_payload",
    "anonymous",
    "bearer",
    "certificate_names",
    "certificate_problems",
    "certificate_thumbprint",
    "create_signing_key",
    "internal_client_payload",
    "issue_token",
    "judge",
    "lifting_payload",
    "load_policy",
    "must_be_signed",
    "parse_key_set",
    "plan_digest",
    "read_signing_key",
    "required_scope",
    "sign",
    "signers_of",
    "stage_requirements",
    "transition_payloads",
    "trust_root",
    "write_signing_key",
]
