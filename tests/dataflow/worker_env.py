"""A virtual environment like a worker's: what the package requires and nothing else, taken from this one.

Nothing is downloaded: packages are linked. Extras such as `local` are not there, so what needs them fails as it
would on a worker.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path, PurePath

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

IMAGE_EXTRAS = ("build", "setuptools", "wheel")
"""What Beam's worker image has besides Beam, to build the package with."""


def make(directory: Path, package: str, archive: Path) -> Path:
    """Makes the environment and builds and installs the package's archive in it, with pip, as a worker does.

    Args:
      directory: where; new.
      package: its distribution's name; what it requires must be installed here.
      archive: the sdist to install.

    Returns:
      The environment's `bin`.

    Raises:
      subprocess.CalledProcessError: the package can't be built or installed.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(directory), "platbase": str(directory)}))
    required = closure([package, *IMAGE_EXTRAS])
    del required[canonicalize_name(package)]
    _link(site, required)
    (pip,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    # As Beam's boot does it, but pip fetches nothing, and doesn't spend seconds on what is there (`unmet` does).
    install = [
        "install",
        "--quiet",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--no-build-isolation",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run(
        [directory / "bin/python", pip / "pip", *install, archive],
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))},
    )
    return directory / "bin"


def direct_requirements(package: str) -> dict[NormalizedName, Requirement]:
    """What the package itself requires, by name, without its extras."""
    requirements = map(Requirement, distribution(package).requires or ())
    return {
        canonicalize_name(needed.name): needed
        for needed in requirements
        if needed.marker is None or needed.marker.evaluate({"extra": ""})
    }


def unmet(package: str) -> list[str]:
    """What the package requires that isn't installed here, or in another version."""
    installed = {canonicalize_name(found.metadata["Name"]): found.version for found in distributions()}
    needed = direct_requirements(package)
    return [
        str(requirement)
        for name, requirement in needed.items()
        if name not in installed or installed[name] not in requirement.specifier
    ]


def closure(names: Iterable[str]) -> dict[str, Distribution]:
    """The distributions of these names, and all that they require, as installed here."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(name) for name in names]
    while todo:
        requirement = todo.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = distribution(name)
        for text in found[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                todo.append(needed)
    return found


def _link(site: Path, required: dict[str, Distribution]) -> None:
    """Links what the required distributions have, whole directories where nothing else is in them."""
    links: dict[str, list[tuple[PurePath, Path]]] = {}
    others: set[str] = set()
    for installed in distributions():
        is_required = canonicalize_name(installed.metadata["Name"]) in required
        for file in installed.files or ():
            if not is_required:
                others.add(file.parts[0])
            elif file.parts[0] not in ("..", "__pycache__"):
                links.setdefault(file.parts[0], []).append((file, Path(str(installed.locate_file("")))))
    for top, files in links.items():
        for path, origin in files if top in others else [(PurePath(top), files[0][1])]:
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).symlink_to(origin / path)
