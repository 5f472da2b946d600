"""BLAS on one thread while hands are read: products are small here, and threads that wait for each other cost a busy
machine up to seconds a frame (measured: p95 of two hands 1,007 ms with two BLAS threads beside other work).
"""

from __future__ import annotations

from contextlib import AbstractContextManager


class OneBlasThread:
    """Makes contexts in which NumPy's and SciPy's linear algebra keep to one thread; entering one takes 15 us."""

    def __init__(self) -> None:
        try:
            from threadpoolctl import ThreadpoolController
        except ImportError as error:
            raise ImportError("the hand estimators need threadpoolctl: pip install threadpoolctl") from error
        self._libraries = ThreadpoolController().select(user_api="blas")

    def __call__(self) -> AbstractContextManager:
        """A context to enter."""
        return self._libraries.limit(limits=1)
