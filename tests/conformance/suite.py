"""Owns which suites there are, and how pytest runs one of them against a service that is there already."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoint import models_folder
from tests.conformance import openai_source
from tests.conformance.environments import HERE, Environment
from tests.conformance.results import Result, result_of
from tests.service.conftest import MODEL
from tests.service.running import ROOT

SUITE_WITHIN_S = 1800
SKIPS = HERE / "skips.toml"
PLUGIN = HERE / "plugin"
#: The options of the client's own tests, without the workers of a package that we do not install.
_OPENAI_OPTIONS = ("-o", "addopts=", "-o", "timeout=300")
_OPENAI_TESTS = ("chat/test_completions.py", "test_completions.py", "test_models.py")


@dataclass(frozen=True, slots=True)
class Suite:
    """package: whose version the result names. file: ours, in `clients/`; None for the tests of the package itself."""

    name: str
    package: str
    environment: Environment
    file: str | None


SUITES = [
    Suite("openai", "openai", Environment.CURRENT, None),
    Suite("langchain", "langchain-tests", Environment.OPENAI2, "langchain_suite.py"),
    Suite("litellm", "litellm", Environment.OPENAI2, "litellm_suite.py"),
    Suite("instructor", "instructor", Environment.OPENAI2, "instructor_suite.py"),
    Suite("llm", "llm", Environment.CURRENT, "llm_suite.py"),
    Suite("lm-eval", "lm-eval", Environment.CURRENT, "lm_eval_suite.py"),
]


#: What the client's own tests call their models. The service serves its one set of weights under these names too,
#: so that those tests need no change at all.
NAMES_IN_OPENAI_TESTS = ("gpt-6-astra", "gpt-3.5-turbo-instruct")


def play(suite: Suite, base_url: str, scratch: Path) -> Result:
    """Runs the suite; what it prints goes where ours does. `scratch` takes its report and whatever it leaves."""
    folder = openai_source.fetched() if suite.file is None else ROOT
    report = scratch / f"{suite.name}.xml"
    done = subprocess.run(
        [str(suite.environment.python), "-m", "pytest", *_options(suite, folder), f"--junit-xml={report}"],
        cwd=folder,
        env=_environment(suite, base_url, scratch),
        timeout=SUITE_WITHIN_S,
    )
    return result_of(suite.name, suite.environment.pins()[suite.package], done.returncode, report)


def _options(suite: Suite, folder: Path) -> list[str]:
    skips = ["-p", "skip_list", f"--skip-list={SKIPS}", f"--skip-suite={suite.name}"]
    shared = [*skips, "-p", "no:cacheprovider", "--quiet", "--tb=short", f"--rootdir={folder}"]
    if suite.file is None:
        return [*shared, *_OPENAI_OPTIONS, *(f"tests/api_resources/{name}" for name in _OPENAI_TESTS)]
    ours = HERE / "clients"
    return [*shared, "-c", str(ours / "pytest.ini"), f"--confcutdir={ours}", str(ours / suite.file)]


def _environment(suite: Suite, base_url: str, scratch: Path) -> dict[str, str]:
    """Ours without its keys, and with everything that would ask somebody else's server switched off."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LANG", "PYTHON"))}
    return given | {
        "PATH": f"{suite.environment.commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PLUGIN),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "TEST_API_BASE_URL": f"{base_url}/v1",
        "CONFORMANCE_BASE_URL": f"{base_url}/v1",
        "CONFORMANCE_MODEL": MODEL,
        "CONFORMANCE_OTHER_MODEL": NAMES_IN_OPENAI_TESTS[0],
        "CONFORMANCE_TOKENIZER": str(models_folder() / MODEL),
        "HF_HOME": str(scratch / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
