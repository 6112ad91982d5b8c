"""Part of building the wheel: compiles `bridge/net/receive.c` to a library that ctypes loads. Without a compiler
the wheel is pure Python, and `bridge.net.receive` reads datagrams in Python: slower, not less."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("bridge/net/receive.c")
LIBRARY = Path("bridge/net/libreceive.so")
FLAGS = ["-O2", "-fPIC", "-shared", "-Wall", "-Wextra"]


class Compile(BuildHookInterface[Any]):
    """Found by hatchling through `[tool.hatch.build.hooks.custom]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is put together; an editable one is a wheel, too, and leaves the library in the tree."""
        if self.target_name != "wheel" or not self._compile(Path(self.root)):
            return
        build_data["artifacts"].append(LIBRARY.as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")

    def _compile(self, root: Path) -> bool:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if not compiler or not sysconfig.get_platform().startswith("linux"):
            self.app.display_warning("no C compiler: datagrams will be read in Python, which takes longer")
            return False
        made = root / LIBRARY.with_suffix(".part")
        command = [*compiler.split(), *FLAGS, "-o", str(made), str(root / SOURCE)]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:  # OSError: CC names nothing that can be run
            told = getattr(error, "stderr", error)
            self.app.display_warning(f"{SOURCE} was not compiled, datagrams will be read in Python: {told}")
            return False
        made.replace(root / LIBRARY)
        return True
