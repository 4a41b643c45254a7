"""Find METEOR 1.5's program and data in an installed pycocoevalcap."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import shutil
import zipfile
from pathlib import Path

from ct_vlm.errors import MissingDependencyError

JAR = "meteor-1.5.jar"
_INSTALL = "Install the extra: pip install 'ct_vlm[metrics]'"


def find_jar() -> Path:
    """Return the path of ``meteor-1.5.jar``.

    Raises:
        MissingDependencyError: If pycocoevalcap is not installed, or without its data.
    """
    spec = importlib.util.find_spec("pycocoevalcap")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        jar = Path(folder, "meteor", JAR)
        if jar.is_file():
            return jar
    cause = f"METEOR 1.5 needs {JAR}, which the package pycocoevalcap carries, and it was not found."
    raise MissingDependencyError(cause, f"{_INSTALL}, or choose variant='nltk' (another score).")


def find_java() -> str:
    """Return the path of the ``java`` program.

    Raises:
        MissingDependencyError: If it is not on the path.
    """
    java = shutil.which("java")
    if java is None:
        cause = "METEOR 1.5 runs a Java program, and `java` is not on the path."
        cure = "Install a Java runtime (8 or newer), leave METEOR out, or choose variant='nltk' (another score)."
        raise MissingDependencyError(cause, cure)
    return java


def package_version(name: str) -> str:
    """Return an installed package's version, or ``"absent"``.

    Args:
        name: Name of the distribution.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@functools.cache
def read_synsets(jar: Path) -> dict[str, tuple[str, ...]]:
    """Read the WordNet 3.0 synonym sets in the jar: lower-case lemma to the sets it is in.

    Args:
        jar: Path of the jar.
    """
    lines = _read_lines(jar, "synonym/english.synsets")
    return {lemma: tuple(sets.split()) for lemma, sets in zip(lines[::2], lines[1::2], strict=True)}


@functools.cache
def read_exceptions(jar: Path) -> dict[str, tuple[str, ...]]:
    """Read WordNet's irregular forms in the jar: inflected form to its base forms.

    Args:
        jar: Path of the jar.
    """
    lines = _read_lines(jar, "synonym/english.exceptions")
    bases: dict[str, list[str]] = {}
    for base, forms in zip(lines[::2], lines[1::2], strict=True):
        for form in forms.split():
            bases.setdefault(form, []).append(base)
    return {form: tuple(found) for form, found in bases.items()}


def _read_lines(jar: Path, member: str) -> list[str]:
    """Return a text member's lines."""
    with zipfile.ZipFile(jar) as archive:
        return archive.read(member).decode("utf-8").splitlines()
