"""Ray Serve applications that load no model: one that answers, one that cannot be built. For tests of the launcher."""

import asyncio

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

api = FastAPI()


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
@serve.ingress(api)
class Tiny:
    @api.get("/readyz")
    async def readyz(self) -> str:
        return "ready"

    @api.get("/never")
    async def never(self) -> None:
        await asyncio.Event().wait()


def build(args: dict[str, str]) -> Application:
    return Tiny.bind()


def build_broken(args: dict[str, str]) -> Application:
    raise ValueError("no weights in the cupboard")
