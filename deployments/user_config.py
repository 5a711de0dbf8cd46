"""Owns the Ingress's `user_config`: what may change while the service runs. Opens no file."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from deployments.problems import Withheld, without_insides
from deployments.settings import Positive, Settings, TopSettings
from deployments.tenant_keys import account_of, checked_key, configured_digest, is_key, without_key
from scheduling.admission import AdmissionBounds
from scheduling.quotas import QuotaLimits
from scheduling.score import PolicyName, ScorePolicy

INGRESS_NAME = "Ingress"
MAX_WAITING = 100_000
MIB = 2**20

Priority = Annotated[float, Field(ge=-100, le=100)]


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("an absolute path: every ingress reads it, from whatever folder it runs in")
    return path


class ClassConfig(Settings):
    """A service class: priorities from `min_priority` up to the next class, and the objectives of its goodput.

    max_predicted_wait_s: a bound of its own on the wait that is predicted at the door.
    """

    min_priority: Priority
    ttft_s: Positive
    tpot_s: Positive
    max_predicted_wait_s: Positive | None = None


class TenantConfig(Settings):
    """Who holds an API key. max_priority: the most that it may ask for. weight: its share where tenants compete.

    max_requests_per_min, max_tokens_per_min: of the key, not of all the tenant's keys. Tokens: prompt and the longest
    answer, until it is known how long it was.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    max_priority: Priority = 100.0
    max_requests_per_min: Annotated[int, Field(ge=1)] | None = None
    max_tokens_per_min: Annotated[int, Field(ge=1)] | None = None

    @property
    def quota(self) -> QuotaLimits | None:
        """None for a key without limits, of which nobody need keep count."""
        if self.max_requests_per_min is None and self.max_tokens_per_min is None:
            return None
        return QuotaLimits(self.max_requests_per_min, self.max_tokens_per_min)


class BoundsConfig(Settings):
    """What the service holds at most. max_predicted_wait_s: whoever would wait longer is refused at once."""

    max_waiting: Annotated[int, Field(ge=1, le=MAX_WAITING)] = 1024
    max_waiting_tokens: Annotated[int, Field(ge=1)] | None = None
    max_predicted_wait_s: Positive = 60.0
    max_pending_prompts: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    max_body_bytes: Annotated[int, Field(ge=1024, le=1024 * MIB)] = 4 * MIB
    max_unread_body_bytes: Annotated[int, Field(ge=1024)] = 256 * MIB
    max_body_s: Positive = 30.0
    max_stalled_s: Positive = 30.0


class FailoverConfig(Settings):
    """How often one answer goes on with another replica, from its next token: after the one that gave it was lost, and
    where an engine gave it up in favour of others, in a row without a token."""

    max_failovers: Annotated[int, Field(ge=0, le=100)] = 8
    max_moves: Annotated[int, Field(ge=0, le=1000)] = 16


DEFAULT_TIERS = {"flex": -10.0, "default": 0.0, "auto": 0.0, "priority": 10.0}
DEFAULT_CLASSES = {
    "urgent": ClassConfig(min_priority=5.0, ttft_s=1.0, tpot_s=0.2),
    "standard": ClassConfig(min_priority=0.0, ttft_s=5.0, tpot_s=0.5),
    "flex": ClassConfig(min_priority=-100.0, ttft_s=60.0, tpot_s=2.0),
}


class IngressUserConfig(TopSettings):
    """The Ingress's `user_config`: what may change while the service runs.

    policy, quantum_tokens, promote_after_s: see `ScorePolicy`. bounded_overtaking: refuse a policy and weights under
    which nothing bounds for how long others may be served first. tiers: the priority of each `service_tier`; those not
    named keep their default. tenants: by API key, or by `sha256:` and the key's hex digest; with none everyone is the
    tenant `default`. tenant_keys_file, tenant_keys_env: where more of them stand, see `KeySource`.
    """

    policy: PolicyName = "aged"
    quantum_tokens: Annotated[int, Field(ge=1, le=2**20)] = 256
    promote_after_s: Positive = 30.0
    alpha: Annotated[float, Field(ge=0, le=1e9)] = 1.0
    beta: Annotated[float, Field(ge=0, le=1e9)] = 0.1
    bounded_overtaking: bool = False
    tiers: dict[str, Priority] = Field(default_factory=lambda: dict(DEFAULT_TIERS))
    classes: Annotated[dict[str, ClassConfig], Field(min_length=1)] = Field(
        default_factory=lambda: dict(DEFAULT_CLASSES)
    )
    tenants: dict[Annotated[str, Field(min_length=1), AfterValidator(checked_key)], TenantConfig] = Field(
        default_factory=dict
    )
    tenant_keys_file: Annotated[str, AfterValidator(_absolute)] | None = None
    tenant_keys_env: Annotated[str, Field(min_length=1)] | None = None
    bounds: BoundsConfig = BoundsConfig()
    failover: FailoverConfig = FailoverConfig()

    @classmethod
    def default_path(cls) -> str:
        return f"applications[0].deployments[{INGRESS_NAME}].user_config"

    @classmethod
    def shown(cls, data: Any, location: tuple[int | str, ...], value: object) -> tuple[tuple[int | str, ...], object]:
        """No API key: a message names the tenant's place, and shows nothing that may have a key inside."""
        seen = Withheld("text") if is_key(location) and isinstance(value, str) else without_insides(value)
        return without_key(location, data), seen

    @field_validator("tiers")
    @classmethod
    def _with_those_not_named(cls, tiers: dict[str, float]) -> dict[str, float]:
        return DEFAULT_TIERS | tiers

    @field_validator("beta")
    @classmethod
    def _some_order(cls, beta: float, info: ValidationInfo) -> float:
        if beta == 0 and info.data.get("alpha") == 0:
            raise ValueError("alpha or beta above 0")
        return beta

    @field_validator("bounded_overtaking")
    @classmethod
    def _a_bound_that_there_is(cls, demanded: bool, info: ValidationInfo) -> bool:
        facts = info.data
        if demanded and facts.keys() >= {"policy", "alpha", "beta"}:
            policy = ScorePolicy(facts["alpha"], facts["beta"], name=facts["policy"])
            if not policy.bounds_overtaking:
                raise ValueError(
                    f"a policy that bounds overtaking (aged or fcfs, with beta above 0), and policy is {policy.name}, "
                    f"beta {policy.beta:g}"
                )
        return demanded

    def admission_bounds(self) -> AdmissionBounds:
        """What the queues go by."""
        own = {name: each.max_predicted_wait_s for name, each in self.classes.items()}
        return AdmissionBounds(
            max_waiting=self.bounds.max_waiting,
            max_waiting_tokens=self.bounds.max_waiting_tokens,
            max_wait_s=self.bounds.max_predicted_wait_s,
            max_wait_s_by_class={name: wait_s for name, wait_s in own.items() if wait_s is not None},
        )

    @cached_property
    def tenants_by_digest(self) -> dict[str, TenantConfig]:
        """Tenants by their key's digest: a look-up by digest takes no time that depends on the key's characters."""
        return {configured_digest(key): tenant for key, tenant in self.tenants.items()}

    def quotas(self) -> dict[str, QuotaLimits]:
        """By account, of all keys that have any."""
        limits = {account_of(digest): tenant.quota for digest, tenant in self.tenants_by_digest.items()}
        return {account: quota for account, quota in limits.items() if quota is not None}

    def tenant_weights(self) -> dict[str, float]:
        """By tenant's name; all keys of one tenant have the same weight."""
        return {tenant.name: tenant.weight for tenant in self.tenants.values()}

    @field_validator("tenants")
    @classmethod
    def _one_weight_each(cls, tenants: dict[str, TenantConfig]) -> dict[str, TenantConfig]:
        weights: dict[str, float] = {}
        for tenant in tenants.values():
            if weights.setdefault(tenant.name, tenant.weight) != tenant.weight:
                raise ValueError(
                    f"one weight for all keys of tenant {tenant.name}, "
                    f"but {weights[tenant.name]:g} and {tenant.weight:g} stand there"
                )
        return tenants

    def score_policy(self, epoch: int = 0) -> ScorePolicy:
        return ScorePolicy(self.alpha, self.beta, epoch, self.policy, self.quantum_tokens, self.promote_after_s)

    def class_of(self, priority: float) -> str:
        """The class with the highest `min_priority` that is not above `priority`; below all of them, the lowest."""
        by_rank = sorted(self.classes, key=lambda name: self.classes[name].min_priority)
        reached = [name for name in by_rank if self.classes[name].min_priority <= priority]
        return reached[-1] if reached else by_rank[0]


def parse_user_config(raw: dict[str, Any] | None, path: str | None = None) -> IngressUserConfig:
    """The Ingress's `user_config`; nothing given means every default.

    Raises:
        ConfigError: with every problem, under `path`.
    """
    context = {"path": path} if path is not None else None
    return IngressUserConfig.model_validate({} if raw is None else raw, context=context)
