"""Owns the settings of the service: what may stand in `args` and in the Ingress's `user_config`. Opens no file."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from deployments.config_errors import ConfigError
from deployments.problems import Withheld, problems_of, without_insides
from deployments.tenant_keys import checked_key, is_key, without_key
from engine.config import Backend, CpuKernels, CudaGraphs, Dtype, EngineConfig
from scheduling.admission import AdmissionBounds
from scheduling.batch_plan import Preemption
from scheduling.score import PolicyName, ScorePolicy

INGRESS_NAME = "Ingress"
MAX_RANK_CPUS = 0.3
MAX_REPLICA_RANK_CPUS = 0.7  # two replicas, the ingress and bundle 0 fit on two logical CPUs
MAX_WAITING = 100_000  # each dispatch looks at all that wait, to check the bound on overtaking
MIB = 2**20

Positive = Annotated[float, Field(gt=0)]
Priority = Annotated[float, Field(ge=-100, le=100)]


class Settings(BaseModel):
    """Unknown keys are errors, numbers are finite, and text is never taken for a number."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class TopSettings(Settings):
    """Settings that raise ConfigError in our own words, whoever validates them."""

    @model_validator(mode="wrap")
    @classmethod
    def _say_what_is_wrong(cls, data: Any, validate: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        try:
            return validate(data)
        except ValidationError as error:
            path = (info.context or {}).get("path", cls.default_path())
            raise ConfigError(problems_of(error, cls, path, partial(cls.shown, data))) from None

    @classmethod
    def shown(cls, data: Any, location: tuple[int | str, ...], value: object) -> tuple[tuple[int | str, ...], object]:
        """What a message may show of a wrong value in `data` and of its location."""
        return location, value

    @classmethod
    def default_path(cls) -> str:
        """Where these settings stand in the file when nobody says so."""
        raise NotImplementedError


class ModelConfig(Settings):
    """One model and its engine; the limits have the meaning that `EngineConfig` gives them.

    device: `auto` takes a GPU where the cluster has one.
    rank_num_cpus: logical CPUs of each rank's bundle; None shares `MAX_REPLICA_RANK_CPUS` between the ranks.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    source: Annotated[str, Field(min_length=1)]
    backend: Backend = "deepspeed"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Dtype = "bfloat16"
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1
    max_num_seqs: Annotated[int, Field(ge=1, le=4096)] = 32
    max_model_len: Annotated[int, Field(ge=2, le=2**24)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=2**20)] = 512
    block_size: Annotated[int, Field(ge=1, le=1024)] = 16
    kv_cache_tokens: Annotated[int, Field(ge=16, le=2**40)] | None = None
    parked_limit: Annotated[int, Field(ge=0, le=4096)] = 8
    preemption_margin_levels: Annotated[float, Field(ge=0, le=1000)] = 5.0
    max_decode_stretch: Annotated[float, Field(ge=1, le=1000)] | None = 1.7
    preemption: Preemption = "auto"
    swap_space_tokens: Annotated[int, Field(ge=0, le=2**40)] | None = None
    step_timeout_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    prefix_caching: bool = True
    cpu_kernels: CpuKernels = "auto"
    cuda_graphs: CudaGraphs = "auto"
    num_threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    rank_num_cpus: Annotated[float, Field(ge=0, le=1024)] | None = None
    fake_step_s: Annotated[float, Field(ge=0, le=60)] = 0.005

    @field_validator("name")
    @classmethod
    def _not_the_ingress(cls, name: str) -> str:
        if name == INGRESS_NAME:
            raise ValueError(f"a name other than {INGRESS_NAME}, which is the HTTP deployment's")
        return name

    @model_validator(mode="after")
    def _every_sequence_gets_a_token(self) -> Self:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) of at least "
                f"max_num_seqs ({self.max_num_seqs}): each running sequence decodes one token a step"
            )
        return self

    @property
    def cpus_per_rank(self) -> float:
        """Logical CPUs of one rank's bundle, rounded down to what Ray can count."""
        if self.rank_num_cpus is not None:
            return self.rank_num_cpus
        return min(MAX_RANK_CPUS, int(MAX_REPLICA_RANK_CPUS * 10_000) // self.tensor_parallel_size / 10_000)

    def longest_sequence(self, context_length: int) -> int:
        """Tokens of prompt and answer that a replica takes: the checkpoint's context, as far as both limits allow."""
        limits = (context_length, self.max_model_len, self.kv_cache_tokens)
        return min(limit for limit in limits if limit is not None)

    def to_engine_config(self, *, has_gpu: bool = False) -> EngineConfig:
        """The engine's own settings; `has_gpu` decides what `device: auto` means."""
        device = self.device
        if device == "auto":
            device = "cuda" if has_gpu else "cpu"
        kept = self.model_dump(exclude={"name", "device", "rank_num_cpus"})
        return EngineConfig(model_name=self.name, device=device, **kept)


class ServingConfig(TopSettings):
    """`applications[].args`: the models of one application. Changing it restarts the application."""

    models: Annotated[list[ModelConfig], Field(min_length=1)]

    @classmethod
    def default_path(cls) -> str:
        return "applications[0].args"

    @field_validator("models")
    @classmethod
    def _unique_names(cls, models: list[ModelConfig]) -> list[ModelConfig]:
        names = [model.name for model in models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each name once, but {', '.join(twice)} stands there more than once")
        return models

    @property
    def deployment_names(self) -> list[str]:
        return [INGRESS_NAME, *(model.name for model in self.models)]


class ClassConfig(Settings):
    """A service class: priorities from `min_priority` up to the next class, and the objectives of its goodput.

    max_predicted_wait_s: a bound of its own on the wait that is predicted at the door.
    """

    min_priority: Priority
    ttft_s: Positive
    tpot_s: Positive
    max_predicted_wait_s: Positive | None = None


class TenantConfig(Settings):
    """Who holds an API key. max_priority: the most that it may ask for. weight: its share where tenants compete."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    max_priority: Priority = 100.0


class BoundsConfig(Settings):
    """What the service holds at most. max_predicted_wait_s: whoever would wait longer is refused at once."""

    max_waiting: Annotated[int, Field(ge=1, le=MAX_WAITING)] = 1024
    max_waiting_tokens: Annotated[int, Field(ge=1)] | None = None
    max_predicted_wait_s: Positive = 60.0
    max_pending_prompts: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    max_body_bytes: Annotated[int, Field(ge=1024, le=1024 * MIB)] = 4 * MIB


DEFAULT_TIERS = {"flex": -10.0, "default": 0.0, "auto": 0.0, "priority": 10.0}
DEFAULT_CLASSES = {
    "urgent": ClassConfig(min_priority=5.0, ttft_s=1.0, tpot_s=0.2),
    "standard": ClassConfig(min_priority=0.0, ttft_s=5.0, tpot_s=0.5),
    "flex": ClassConfig(min_priority=-100.0, ttft_s=60.0, tpot_s=2.0),
}


class IngressUserConfig(TopSettings):
    """The Ingress's `user_config`: what may change while the service runs.

    policy, quantum_tokens, promote_after_s: see `ScorePolicy`. tiers: the priority of each `service_tier`; those not
    named keep their default. tenants: by API key, or by `sha256:` and the key's hex digest; with none everyone is the
    tenant `default`.
    """

    policy: PolicyName = "aged"
    quantum_tokens: Annotated[int, Field(ge=1, le=2**20)] = 256
    promote_after_s: Positive = 30.0
    alpha: Annotated[float, Field(ge=0, le=1e9)] = 1.0
    beta: Annotated[float, Field(ge=0, le=1e9)] = 0.1
    tiers: dict[str, Priority] = Field(default_factory=lambda: dict(DEFAULT_TIERS))
    classes: Annotated[dict[str, ClassConfig], Field(min_length=1)] = Field(
        default_factory=lambda: dict(DEFAULT_CLASSES)
    )
    tenants: dict[Annotated[str, Field(min_length=1), AfterValidator(checked_key)], TenantConfig] = Field(
        default_factory=dict
    )
    bounds: BoundsConfig = BoundsConfig()

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

    def admission_bounds(self) -> AdmissionBounds:
        """What the queues go by."""
        own = {name: each.max_predicted_wait_s for name, each in self.classes.items()}
        return AdmissionBounds(
            max_waiting=self.bounds.max_waiting,
            max_waiting_tokens=self.bounds.max_waiting_tokens,
            max_wait_s=self.bounds.max_predicted_wait_s,
            max_wait_s_by_class={name: wait_s for name, wait_s in own.items() if wait_s is not None},
        )

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
