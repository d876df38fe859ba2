"""The harness with a false clock: nothing here depends on how fast anything runs."""

import json

import pytest
import torch

from benchmarks.harness import Gemm, Ratio, Report, compare, ratios, turns
from benchmarks.machine import peak_memory

TINY = ((8, 8, 8),)


class Clock:
    """Stands still but for what the variants add."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def variant(self, name: str, *seconds: float):
        def call() -> None:
            self.now += seconds[self.calls.count(name) % len(seconds)]
            self.calls.append(name)

        return call


def run(clock: Clock, variants, tmp_path, **options) -> Report:
    options = {"rounds": 6, "warmup": 1, **options}
    out = tmp_path / "results" / "x.json"
    return compare("x", variants, gemm_shapes=TINY, out=out, clock=clock, **options)


def test_every_variant_starts_in_turn():
    assert turns(["a", "b"], 3) == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert turns(["a", "b", "c"], 4) == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_calls_follow_the_order_after_warm_up_and_memory(tmp_path):
    clock = Clock()
    report = run(clock, {"a": clock.variant("a", 1), "b": clock.variant("b", 2)}, tmp_path)
    measured = [name for turn in report.order for name in turn]
    assert clock.calls[-12:] == measured == ["a", "b", "b", "a"] * 3
    assert report.variants["a"].seconds == [1] * 6
    assert report.variants["b"].seconds == [2] * 6


def test_figures_and_file(tmp_path):
    clock = Clock()
    variants = {"ours": clock.variant("ours", 2), "theirs": clock.variant("theirs", 6)}
    run(clock, variants, tmp_path, items_per_call=8, flops_per_call=4e9, seed=3)
    data = json.loads((tmp_path / "results" / "x.json").read_text())
    assert data["schema"] == "diffgen-benchmark/1"
    assert set(data) == {
        *("schema", "name", "created", "seed", "rounds", "warmup", "items_per_call"),
        *("flops_per_call", "environment", "load_average", "ceiling", "order", "variants"),
        "ratios",
    }
    ours = data["variants"]["ours"]
    assert (ours["median"], ours["quartiles"]) == (2, [2, 2])
    assert (ours["items_per_second"], ours["gflops"]) == (4, 2)
    ceiling = data["ceiling"]
    best = max(one["gflops"] for side in ("before", "after") for one in ceiling[side])
    assert ours["ceiling_share"] == pytest.approx(2 / best)
    assert {one["threads"] for one in ceiling["before"]} == {1, torch.get_num_threads()}
    assert data["ratios"]["theirs"] == {
        **{"to": "ours", "ratio": 3, "low": 3, "high": 3, "verdict": "slower"},
    }
    assert data["environment"]["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert data["seed"] == 3
    assert data["order"] == [["ours", "theirs"], ["theirs", "ours"]]


def test_quartiles_and_table(tmp_path, capsys):
    clock = Clock()
    # Warm-up and the memory call take the first two values of each round of eight.
    variants = {
        "even": clock.variant("even", 9, 9, 1, 2, 3, 4, 5, 6),
        "late": clock.variant("late", 9, 9, 2, 4, 6, 8, 10, 12),
    }
    report = run(clock, variants, tmp_path)
    assert report.variants["even"].seconds == pytest.approx([1, 2, 3, 4, 5, 6])
    assert report.variants["even"].quartiles == pytest.approx((2.25, 4.75))
    printed = capsys.readouterr().out
    assert "3500.000" in printed
    assert "slower" in printed


def test_a_slow_round_cancels_in_the_paired_interval():
    slow = [1.0, 5.0, 1.0, 7.0, 2.0, 3.0]
    found = ratios({"a": slow, "b": [1.5 * s for s in slow]}, seed=0)["b"]
    assert (found.ratio, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))


def test_noise_is_inconclusive():
    found = ratios({"a": [1, 2, 3, 4, 5, 6], "b": [6, 1, 5, 2, 4, 3]}, seed=0)["b"]
    assert found.low < 1 < found.high
    assert found.verdict == "inconclusive"
    assert Ratio("a", 0.5, 0.4, 0.6).verdict == "faster"


@pytest.mark.parametrize(("after", "reliable"), [(96.0, True), (94.0, False), (104.0, True)])
def test_a_run_is_reliable_if_the_ceiling_stood_still(after, reliable):
    before = [Gemm((8, 8, 8), "float32", 1, 100.0), Gemm((8, 8, 8), "float32", 2, 50.0)]
    report = Report("x", {}, {}, [], before, [Gemm((8, 8, 8), "float32", 1, after)], {})
    assert report.reliable is reliable
    assert ("UNRELIABLE" in report.table()) is not reliable


def test_random_state_is_the_same_for_every_call(tmp_path):
    clock, drawn = Clock(), []
    variants = {name: lambda: drawn.append(torch.rand(()).item()) for name in "ab"}
    run(clock_of_ones(clock), variants, tmp_path)
    timed = drawn[-12:]
    assert len(set(timed)) == 1


def clock_of_ones(clock: Clock):
    def tick() -> float:
        clock.now += 1
        return clock.now

    return tick


def test_peak_memory_sees_a_large_temporary():
    found = peak_memory(lambda: torch.ones(16 << 20).sum(), torch.device("cpu"))
    if found is not None:  # None where the system has no resettable peak
        assert found.measure == "resident set"
        assert found.growth > 50e6


@pytest.mark.parametrize("wrong", [{"rounds": 4}, {"gemm_shapes": ()}, {"variants": {"a": len}}])
def test_too_little_is_refused(wrong):
    options = {"variants": {"a": list, "b": list}, **wrong}
    with pytest.raises(ValueError, match="at least 2 variants, 5 rounds and 1 GEMM shape"):
        compare("x", **options)
