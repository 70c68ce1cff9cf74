"""What hub and scheduler ask of the C library's memory."""

import subprocess
import sys

import pytest

TABLES = """
import ctypes, os
from secure_ipp.wire import tether

def held():
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

tether.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def table():
    made = libc.malloc(5 << 20)
    ctypes.memset(made, 1, 5 << 20)
    return made

libc.free(table())  # from here on, glibc by itself would keep such tables in its heap
before, kept, tables = held(), [], [table()]
for _ in range(20):  # the next one is made before the old one goes, and something small stays between
    kept.append(libc.malloc(100_000))
    ctypes.memset(kept[-1], 1, 100_000)
    tables.append(table())
    libc.free(tables.pop(0))
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asked of glibc only")
def test_tables_that_are_made_anew_leave_no_holes():
    answer = subprocess.run([sys.executable, "-c", TABLES], capture_output=True, text=True, timeout=60, check=True)
    assert int(answer.stdout) < 10 << 20, "one table, what stays between, and little else"
