"""Rules of the house that no other tool checks: file sizes, leftovers, documentation, light imports."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ct_vlm

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES, LONG_LINES, MAX_SHARE_LONG = 600, 450, 0.05
MAX_FUNCTION_LINES = 60
HEAVY = ("torch", "lightning", "monai", "transformers", "pandas", "scipy", "nibabel", "matplotlib", "rich")

# split, so that this file does not match itself
LEFTOVERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+|mnt|opt|tmp)/[\w.-]+")
REGISTRY_HOSTS = re.compile(
    "|".join([r"pypi" + r"\.org", r"files\.python" + "hosted", r"try\." + "npmjs", "index" + "-url"])
)


def tracked_files() -> list[Path]:
    """Return what belongs to the project: files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git working tree")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def modules() -> list[Path]:
    return sorted((ROOT / "ct_vlm").rglob("*.py"))


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("pattern", [LEFTOVERS, MACHINE_PATHS, REGISTRY_HOSTS], ids=["leftover", "path", "host"])
def test_no_file_holds_leftovers_machine_paths_or_registry_hosts(pattern: re.Pattern[str]) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in tracked_files()
        for number, line in enumerate(text_of(file).splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


def test_patterns_find_what_they_are_for() -> None:
    assert LEFTOVERS.search("# TO" + "DO: later")
    assert MACHINE_PATHS.search("open('/ro" + "ot/data.csv')")
    assert REGISTRY_HOSTS.search("https://pypi" + ".org/simple")
    assert not MACHINE_PATHS.search("see https://example.com/work/page")


def test_python_files_stay_small() -> None:
    sizes = {file: text_of(file).count("\n") for file in tracked_files() if file.suffix == ".py"}
    too_long = [f"{file.relative_to(ROOT)}: {lines}" for file, lines in sizes.items() if lines > MAX_LINES]
    assert too_long == []
    share = sum(lines > LONG_LINES for lines in sizes.values()) / len(sizes)
    assert share <= MAX_SHARE_LONG, f"{share:.0%} of the files have more than {LONG_LINES} lines"


def test_functions_stay_short() -> None:
    too_long = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {body_lines(node)} lines"
        for file in modules()
        for node in ast.walk(ast.parse(text_of(file)))
        if isinstance(node, ast.FunctionDef) and body_lines(node) > MAX_FUNCTION_LINES
    ]
    assert too_long == []


def body_lines(node: ast.FunctionDef) -> int:
    """Count a function's lines without its docstring."""
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_every_public_name_is_documented() -> None:
    missing = []
    for file in modules():
        tree = ast.parse(text_of(file))
        if ast.get_docstring(tree) is None:
            missing.append(module_name(file))
        missing.extend(f"{module_name(file)}.{node.name}" for node in public_definitions(tree) if not documented(node))
    assert missing == []


def public_definitions(tree: ast.Module) -> list[ast.ClassDef | ast.FunctionDef]:
    """Return public classes and functions of a module, and public methods of those classes."""
    owners = [item for item in tree.body if isinstance(item, ast.ClassDef) and not item.name.startswith("_")]
    candidates = [*tree.body, *(item for owner in owners for item in owner.body)]
    return [
        item
        for item in candidates
        if isinstance(item, ast.ClassDef | ast.FunctionDef) and not item.name.startswith("_")
    ]


def documented(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Tell whether a definition has a docstring, or declares an overload or override of one that has."""
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(ast.get_docstring(node)) or bool(names & {"overload", "override", "setter"})


def test_no_print_and_no_device_calls_in_the_library() -> None:
    calls = re.compile(r"(?<![\w.])print\(|\.cuda\(\)|pickle\.load|weights_only=False")
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in modules()
        for number, line in enumerate(text_of(file).splitlines(), start=1)
        if calls.search(line) and not line.lstrip().startswith((">>>", "...", "#"))
    ]
    assert found == []


@pytest.mark.parametrize("name", ct_vlm.__all__)
def test_every_listed_public_name_can_be_imported(name: str) -> None:
    value = getattr(ct_vlm, name)
    assert name in dir(ct_vlm)
    if name in ct_vlm._EXPORTS and isinstance(value, type):
        assert value.__name__ == name


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ct_vlm.no_such_name


def imported_heavy_modules(statement: str) -> list[str]:
    """Run a statement in a new process and return the heavy packages it imported."""
    script = (
        "import sys\ntry:\n"
        f"    {statement}\n"
        "except SystemExit:\n    pass\n"
        f"sys.stderr.write(','.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in ended.stderr.split(",") if name]


@pytest.mark.parametrize(
    "statement",
    [
        "import ct_vlm",
        "from ct_vlm.cli import main; main(['--help'])",
        "from ct_vlm.cli import main; main(['--version'])",
        "from ct_vlm.cli import main; main(['generate', '--help'])",
        "from ct_vlm.cli import main; main(['phantoms', '--help'])",
        "from ct_vlm.cli import main; main(['preprocess', '--help'])",
        "from ct_vlm.cli import main; main(['demo', '--help'])",
    ],
)
def test_import_and_help_load_nothing_heavy(statement: str) -> None:
    assert imported_heavy_modules(statement) == []


def test_the_probe_for_heavy_modules_sees_them() -> None:
    assert "rich" in imported_heavy_modules("import rich")


def test_subpackages_import_alone() -> None:
    for file in sorted((ROOT / "ct_vlm").glob("*/__init__.py")):
        assert importlib.import_module(module_name(file)).__doc__


def test_version_is_one_everywhere() -> None:
    citation = text_of(ROOT / "CITATION.cff")
    assert f"version: {ct_vlm.__version__}\n" in citation
    assert re.search(rf"## \[(Unreleased|{re.escape(ct_vlm.__version__)})\]", text_of(ROOT / "CHANGELOG.md"))


def test_readme_names_the_commands_that_ci_runs() -> None:
    readme, script = text_of(ROOT / "README.md"), text_of(ROOT / ".ci" / "run")
    for command in ("pip install . && ct-vlm demo", 'pip install -e ".[test]" && pytest'):
        assert command in readme
        assert command in script.replace("\\", "")
