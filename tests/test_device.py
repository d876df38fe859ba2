"""Where a command computes, on machines with and without a GPU."""

import pytest

from diffgen.device import chosen_device, on_cpu
from diffgen.errors import UserError


@pytest.fixture(params=[True, False], ids=["a GPU", "no GPU"])
def gpu(request, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: request.param)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    return request.param


def test_auto_takes_the_gpu_there_is(gpu):
    assert chosen_device("auto") == ("cuda" if gpu else "cpu")
    assert chosen_device("cpu") == "cpu"
    assert on_cpu("auto") is not gpu


@pytest.mark.parametrize("word", ["true", "1", "Yes", "on"])
def test_the_launch_may_ask_for_the_cpu(gpu, monkeypatch, word):
    monkeypatch.setenv("ACCELERATE_USE_CPU", word)
    assert on_cpu("auto")
    with pytest.raises(UserError, match="ACCELERATE_USE_CPU is set"):
        chosen_device("cuda")


def test_what_a_cpu_cannot_do_is_refused_by_its_option(gpu):
    if gpu:
        assert chosen_device("cuda", "vae.precision") == "cuda"
        return
    with pytest.raises(UserError, match="device: cuda was asked for, but torch sees no GPU"):
        chosen_device("cuda")
    with pytest.raises(UserError, match=r"vae.precision: bf16 needs a GPU"):
        chosen_device("auto", "vae.precision")
