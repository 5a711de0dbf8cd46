"""Owns what is served: what may stand in the application's `args`. Opens no file."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from deployments.settings import Settings, TopSettings
from deployments.user_config import INGRESS_NAME
from engine.config import Backend, CpuKernels, CudaGraphs, Dtype, EngineConfig
from scheduling.batch_plan import Preemption

MAX_RANK_CPUS = 0.3
MAX_REPLICA_RANK_CPUS = 0.7  # two replicas, the ingress and bundle 0 fit on two logical CPUs


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
