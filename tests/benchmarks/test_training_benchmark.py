"""The benchmark of training steps: what each row does, and a run of it at sizes of a second."""

import json

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from benchmarks.training import main
from benchmarks.training_rows import ROWS, open_training
from diffgen.models.compiled import compile_blocks
from diffgen.models.flops import forward_macs

CPU = torch.device("cpu")


@pytest.fixture
def training():
    return open_training("demo", CPU, batch=2, compiled=False)


def test_a_routed_step_leaves_half_of_the_tokens_out_of_the_middle_and_fewer_flops(training):
    seen = []
    for block in training.model.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    training.call(ROWS["routed"], 1)()
    assert seen == [64, 32, 32, 64]
    training.call(ROWS["eager"], 1)()
    assert seen[4:] == [64] * 4
    whole, routed = (training.flops(ROWS[row]) for row in ("eager", "routed"))
    assert whole == 6 * forward_macs(training.model.config, (32, 32))
    assert 0.5 < routed / whole < 0.8


def test_a_checkpointed_step_computes_every_block_twice(training):
    seen = []
    for block in training.model.blocks:
        block.attn.register_forward_hook(lambda *_: seen.append(1))
    training.call(ROWS["checkpointed"], 1)()
    assert len(seen) == 2 * 4
    training.call(ROWS["eager"], 1)()
    assert len(seen) == 3 * 4


def test_ema_8_averages_in_the_eighth_step_alone(training):
    average = training.ema.averages[0].weights["final_layer.linear.weight"]
    before = average.clone()
    seven, eighth = (training.call(ROWS["ema_8"], steps) for steps in (7, 8))
    seven()
    assert torch.equal(average, before)
    eighth()
    assert not torch.equal(average, before)


def test_rows_have_the_optimisers_of_their_names(training):
    def kinds(row):
        return [type(one).__name__ for one in training.optimizers(ROWS[row].optimizer)[0]]

    assert (kinds("eager"), kinds("unfused"), kinds("muon")) == (
        *(["AdamW"], ["AdamW"]),
        ["Muon", "AdamW"],
    )
    fused, unfused = (training.optimizers(kind)[0][0] for kind in ("fused", "unfused"))
    assert (fused.defaults["fused"], unfused.defaults["fused"]) == (True, None)
    before = training.state_bytes(ROWS["eager"])
    training.call(ROWS["eager"], 1)()  # two moments of every parameter
    parameters = sum(4 * p.numel() for p in training.model.parameters())
    assert before == 3 * parameters  # two averages
    assert training.state_bytes(ROWS["eager"]) - before == pytest.approx(2 * parameters, rel=1e-3)


# torch asks every tensor it traces for this, and hides the warning, which pytest raises
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_eager_row_of_a_compiled_model_runs_no_graph(training):
    torch._dynamo.reset()
    runs = []

    def backend(graph, inputs):
        compiled = aot_eager(graph, inputs)
        return lambda *given: runs.append(1) or compiled(*given)

    compile_blocks(training.model, backend)
    training.compiled = True
    training.call(ROWS["ema_8"], 1)()
    assert len(runs) == 4  # one graph, run by every block
    training.call(ROWS["eager"], 1)()
    assert len(runs) == 4
    torch._dynamo.reset()


def test_rows_are_compared_and_what_limits_them_is_written_down(tmp_path, capfd):
    main(["--device", "cpu", "--quick", "--rows", "routed,ema_8", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "training-demo-cpu.json").read_text())
    assert list(found["variants"]) == ["eager", "routed", "ema_8"]
    assert {one["to"] for one in found["ratios"].values()} == {"eager"}
    told = found["training"]
    assert (told["batch"], told["precision"], told["tokens"]) == (2, "fp32", 64)
    row = told["rows"]["eager"]
    assert row["images_per_second"] == found["variants"]["eager"]["items_per_second"]
    flops = 6 * told["forward_macs"] * row["images_per_second"]
    assert row["tflops"] == pytest.approx(flops / 1e12)
    assert row["mfu"] == pytest.approx(row["tflops"] / max(told["ceiling_tflops"]))
    phases = told["phases"]["eager"]
    assert list(phases) == [
        *("noise and transfer", "forward", "loss, backward and clipping", "optimiser"),
        "averages",
    ]
    assert min(phases.values()) > 0
    assert "aten::mm" in told["operations"]["largest"]
    assert sum(told["operations"]["largest"].values()) <= 1
    assert "MFU" in capfd.readouterr().out


def test_models_of_latents_train_on_prepared_posteriors_by_the_recipe():
    found = open_training("S", CPU, batch=1, compiled=False)
    assert found.batch["image"].shape == (1, 8, 32, 32)
    assert (found.model.config.in_channels, found.model.config.out_channels) == (4, 8)
    assert found.config.process.kind == "ddpm"
    found.call(ROWS["eager"], 1)()
    assert found.tokens == 256


def test_a_row_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--rows", "fast,routed"])
    assert "--rows fast: there are compiled, eager" in capsys.readouterr().err
