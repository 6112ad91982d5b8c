"""The thresholds once more, as arrays without dimensions: `f32.HINT` is `thresholds.HINT`.

NumPy converts a Python number anew in every call, which takes as long as the call itself does on a hundred legs.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bridge.gate import thresholds

Scalar = TypeVar("Scalar", bound=np.generic)


class Scalars(Generic[Scalar]):
    """Each threshold when it is first asked for."""

    def __init__(self, dtype: type[Scalar]) -> None:
        self._dtype = dtype

    def __getattr__(self, name: str) -> NDArray[Scalar]:
        scalar = np.array(getattr(thresholds, name), self._dtype)
        setattr(self, name, scalar)
        return scalar


f32 = Scalars(np.float32)
i32 = Scalars(np.int32)
