"""Fetches the tests of the pinned `openai` client: only its source archive has them, and they are not ours to keep."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.conformance.environments import FOLDER, Environment, run


def fetched() -> Path:
    """The folder of the source archive, unpacked.

    Raises:
        subprocess.CalledProcessError: the package index does not have it.
    """
    name = f"openai-{Environment.CURRENT.pins()['openai']}"
    folder = FOLDER / name
    if not (folder / "pyproject.toml").is_file():
        options = ("--quiet", "--no-deps", "--no-binary", "openai", "--dest", str(FOLDER))
        run(str(Environment.CURRENT.python), "-m", "pip", "download", *options, name.replace("-", "=="))
        with tarfile.open(FOLDER / f"{name}.tar.gz") as archive:
            archive.extractall(FOLDER, filter="data")
    return folder
