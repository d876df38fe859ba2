"""The benchmark of memory: what it counts, and what it makes of it."""

import sys

import pytest

from benchmarks.memory import Peak, growth, watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

MIB = 2**20
MADE = "x = bytearray(64 * 2**20)"
MAPPED = """
import mmap
with open("file", "r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as x:
    sum(x[::4096])
"""


def peak_of(line: str, folder) -> Peak:
    """Of a Python that does it and then waits a moment."""
    return watched([sys.executable, "-c", f"import time\n{line}\ntime.sleep(0.1)"], folder)


def test_memory_a_process_makes_counts_and_that_of_files_it_maps_does_not(tmp_path):
    (tmp_path / "file").write_bytes(bytes(64 * MIB))
    idle, made, mapped = (peak_of(line, tmp_path) for line in ("pass", MADE, MAPPED))
    assert made.peak_anonymous - idle.peak_anonymous == pytest.approx(64 * MIB, rel=0.05)
    assert mapped.peak_anonymous - idle.peak_anonymous < 4 * MIB
    assert mapped.peak_resident - idle.peak_resident == pytest.approx(64 * MIB, rel=0.1)


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said(tmp_path):
    with pytest.raises(SystemExit, match="no such thing"):
        watched([sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path)


def test_growth_is_told_as_a_ratio_and_for_each_image():
    runs = {side: Peak(peak, 0, 0, 0) for side, peak in (("small", 100), ("large", 150))}
    assert growth(runs, more=25) == {"large": {"ratio": 1.5, "bytes_per_image": 2.0}}
