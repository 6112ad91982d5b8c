"""Building the wheel: a library where it can be compiled, and none where it cannot, which is no failure."""

from __future__ import annotations

import ctypes
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INTERFACE = """
from typing import Generic, TypeVar
T = TypeVar("T")
class BuildHookInterface(Generic[T]): ...
"""


class App:
    """What hatchling tells its user by."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`deploy/compile.py` beside a copy of the source. hatchling is there only while a wheel is built."""
    interface = tmp_path / "path/hatchling/builders/hooks/plugin/interface.py"
    interface.parent.mkdir(parents=True)
    interface.write_text(INTERFACE)
    monkeypatch.syspath_prepend(tmp_path / "path")
    made = runpy.run_path(str(ROOT / "deploy/compile.py"))
    root, source = tmp_path / "source", made["SOURCE"]
    (root / source).parent.mkdir(parents=True)
    shutil.copy(ROOT / source, root / source)
    hook = made["Compile"]()
    hook.root, hook.app, hook.target_name = str(root), App(), "wheel"
    return hook


def build(hook: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"artifacts": [], "pure_python": True}
    hook.initialize("standard", told)
    return told


def test_a_wheel_that_was_built_with_a_compiler_holds_the_library_and_names_its_platform(hook: Any) -> None:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler here")
    told = build(hook)
    assert told["artifacts"] == ["bridge/net/libreceive.so"]
    assert not told["pure_python"]
    assert told["tag"].startswith("py3-none-linux_")
    assert ctypes.CDLL(str(Path(hook.root) / told["artifacts"][0])).callbridge_receive_1
    assert hook.app.warnings == []


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_compiler_that_is_not_there_or_does_not_work_leaves_the_wheel_in_python(
    hook: Any, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert build(hook) == {"artifacts": [], "pure_python": True}
    assert len(hook.app.warnings) == 1
    assert not list(Path(hook.root).rglob("*.so"))
