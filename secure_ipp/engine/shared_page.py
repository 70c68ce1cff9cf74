"""One page of memory between an agent and one engine: what the engine had started, readable after its death."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile


class SharedPage:
    """Little-endian numbers in shared memory.

    Attributes:
        descriptor: of the memory; to be inherited by the engine.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._words = memoryview(self._memory).cast("Q")

    @classmethod
    def create(cls) -> SharedPage:
        """A new page, all zero."""
        if sys.platform == "linux":
            descriptor = os.memfd_create("secure-ipp-page")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, mmap.PAGESIZE)
        return cls(descriptor)

    @property
    def started(self) -> int:
        """Highest assignment number that the engine has started."""
        return self._words[0]

    @started.setter
    def started(self, number: int) -> None:
        self._words[0] = number

    def close(self) -> None:
        """Give the memory back; the page cannot be used after."""
        self._words.release()
        self._memory.close()
        os.close(self.descriptor)
