"""Memory, TFLOP/s and MFU of a training."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from diffgen import DiT
from diffgen.config.train import TrainConfig
from diffgen.models.flops import forward_macs
from diffgen.training.throughput import (
    Throughput,
    measure_ceiling,
    open_throughput,
    peak_memory,
    product_shapes,
)

CPU = torch.device("cpu")


def config(**sections) -> TrainConfig:
    base = {"out": Path("unused"), "device": "cpu", "data": {"kind": "shapes", "size": "16x16"}}
    return TrainConfig.model_validate({**base, **sections})


def model() -> DiT:
    return DiT(sample_size=(16, 16), hidden_size=32, depth=6, num_heads=2, patch_size=4)


def test_mfu_is_the_share_of_the_ceiling():
    found = Throughput(CPU, world=2, flops=5e9, ceiling=1e11).facts(images_per_second=8)
    assert found["tflops"] == pytest.approx(0.02)  # 4 images a second are this process's
    assert found["mfu"] == pytest.approx(0.2)


def test_memory_is_what_the_process_once_had():
    before = peak_memory(CPU)
    more = before + 64 * 2**20
    block = np.ones(more, np.uint8)  # resident, so beyond any peak there was
    del block
    assert more < peak_memory(CPU) < more + 4 * before
    facts = Throughput(CPU, 1, None, None).facts(1.0)
    assert facts == {"memory_gib": round(peak_memory(CPU) / 2**30, 3)}


def test_a_run_counts_six_flops_a_mac_and_measures_without_a_random_number():
    trained = model()
    before = torch.get_rng_state()
    found = open_throughput(config(), trained, CPU, world=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.flops == 6 * forward_macs(trained.config, (16, 16))
    assert found.ceiling is not None
    assert found.ceiling > 1e8


def test_a_routed_run_counts_only_the_tokens_that_are_computed():
    routed = config(model={"depth": 6}, train={"route": {"share": 0.5, "first": 1, "last": 5}})
    found = open_throughput(routed, model(), CPU, world=1)
    whole = open_throughput(config(), model(), CPU, world=1)
    assert 0.4 * whole.flops < found.flops < 0.8 * whole.flops


def test_images_of_mixed_sizes_have_no_number_of_flops():
    mixed = config(data={"kind": "shapes", "size": "32x32", "crop": "none"})
    assert set(open_throughput(mixed, model(), CPU, world=1).facts(10.0)) == {"memory_gib"}


def test_the_ceiling_of_a_large_model_takes_a_cpu_no_longer_than_a_small_ones():
    def seconds(width: int, rows: int) -> float:
        start = time.process_time()
        measure_ceiling(CPU, torch.float32, product_shapes(width, 4.0, rows))
        return time.process_time() - start

    assert seconds(1152, 256 * 256) < 10  # all rows would be 5 TFLOP, over half a minute


def test_the_fastest_product_is_the_ceiling():
    thin, square = (1, 8, 8), (256, 512, 512)
    assert measure_ceiling(CPU, torch.float32, [thin, square]) > 3 * measure_ceiling(
        CPU, torch.float32, [thin]
    )
