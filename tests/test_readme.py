"""The README's quickstart runs as it is printed, with smaller numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SMALLER = {
    'write_ct_rate("phantoms", 200)': 'write_ct_rate("phantoms", 8, shape=(16, 24, 24), workers=0, progress=False)',
    "Trainer(max_epochs=5)": 'Trainer(fast_dev_run=True, accelerator="cpu", enable_progress_bar=False)',
    "again.generate(scan)": "again.generate(scan, max_new_tokens=4)",
}


def test_quickstart_runs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    code = blocks[0]
    for original, smaller in SMALLER.items():
        assert code.count(original) == 1
        code = code.replace(original, smaller)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_quickstart_is_short(repository: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (repository / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert sum(bool(line.strip()) for line in block[1].splitlines()) <= 20
