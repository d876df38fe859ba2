"""The recipe of a distilled DiT-XL/2, read for a model of its kind, and the sizes it states."""

from pathlib import Path

from diffgen import DiffGenPipeline
from diffgen.config.command_line import parse
from diffgen.config.nitro import NitroConfig
from diffgen.config.process import DDPMConfig
from diffgen.config.source import resolve
from diffgen.nitro.features import crop_side, spread_taps
from diffgen.nitro.pool import Compartments, head_types
from diffgen.sampling.schedulers import build_scheduler
from tests.tiny import NAMES, build

RECIPE = Path(__file__).parents[2] / "configs/nitro-dit-xl-2.yaml"


def test_the_recipe_reads_for_a_ddpm_model_of_eps_and_its_sizes_are_as_it_says(tmp_path):
    process = DDPMConfig(learned_variance=True)
    model = build(prediction="eps", out_channels=6).transformer
    pipe = DiffGenPipeline(model, build_scheduler("dpmpp", process=process), NAMES)
    pipe.save_pretrained(tmp_path / "dit")
    argv = [str(tmp_path / "dit"), "--config", str(RECIPE)]
    config = parse(NitroConfig, argv, "train/nitro.py")
    assert config.settled(resolve(config.source)).timestep_shift == 0.25
    left = config.model_copy(update={"timestep_shift": None})
    assert left.settled(resolve(left.source)).timestep_shift == 0.25  # it states the default
    assert config.place(resolve(config.source)) == tmp_path / "dit-nitro"
    heads, taps = config.heads, spread_taps(28)
    types = head_types(heads.local, heads.unconditional)
    cut = Compartments(len(heads.levels), len(types), len(taps), heads.pool)
    assert (len(types), len(taps), cut.each, cut.total) == (3, 10, 4, 480)
    assert cut.each >= heads.share
    assert crop_side(16, heads.local_side) == 8 == 2**heads.convolutions
