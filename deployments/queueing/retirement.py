"""Owns the change from older queue actors of a model to a new one. Knows nothing of what a queue holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayActorError

from deployments.deployment_actors import ActorIdentity

logger = logging.getLogger("ray.serve")

ANSWER_S = 5.0  # how long an older queue may take to say that it has retired, before it is asked again
AGAIN_S = 1.0


async def retire_older(
    own: ActorIdentity, queues: Mapping[str, Any], answer_s: float = ANSWER_S, again_s: float = AGAIN_S
) -> None:
    """Retires the queues that started before `own`, all at once, so that their clients come here.

    queues: Ray actor handles by name, the new one's own among them. One that has ended serves nobody. One that does not
    answer may wake, and would grant what the new one grants: it is asked for as long as it lives.

    Raises:
        ray.exceptions.RayError: an older queue answers, but not to this.
    """
    await asyncio.gather(*(_retire_if_older(own, name, queue, answer_s, again_s) for name, queue in queues.items()))


async def _retire_if_older(own: ActorIdentity, name: str, queue: Any, answer_s: float, again_s: float) -> None:
    is_silent = False
    while True:
        try:
            async with asyncio.timeout(answer_s):
                identity: ActorIdentity = await queue.identity.remote()
                if identity.started_s < own.started_s:
                    await queue.retire.remote()
            return
        except RayActorError:
            logger.info("An older queue ended before it could be retired.", extra={"queue": name})
            return
        except TimeoutError:
            if not is_silent:
                logger.error("Queue %s has not answered for %g s; it is asked to retire until it does.", name, answer_s)
            is_silent = True
        await asyncio.sleep(again_s)
