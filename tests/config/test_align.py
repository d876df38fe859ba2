"""Options of representation alignment: what they default to and what they do not go with."""

import pytest

from diffgen.config.align import AlignConfig
from diffgen.config.command_line import load, parse, to_yaml
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError

ENCODER = ("--align.encoder", "vit_base_patch14_dinov2")


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(*argv):
    return parse(TrainConfig, list(argv), "prog")


def refusal(*argv):
    with pytest.raises(UserError) as error:
        read(*argv)
    return str(error.value)


def test_nothing_is_aligned_unless_an_encoder_is_named():
    assert read().align is None
    align = read(*ENCODER).align
    assert (align.weight, align.hidden, align.block) == (0.5, 2048, None)  # as released
    assert "align.encoder" in refusal("--align.weight", "1")


def test_the_options_are_written_out_and_read_back(tmp_path):
    config = read(*ENCODER, "--align.image-size", "224", "--align.block", "2")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load(TrainConfig, tmp_path / "config.yaml") == config
    assert config.align.image_size == 224


def test_the_default_is_the_eighth_block_of_28_and_exists_at_every_depth():
    align = AlignConfig(encoder="x")
    assert align.aligned_block(28) == 7
    assert all(0 <= align.aligned_block(depth) < depth for depth in range(1, 60))
    assert AlignConfig(encoder="x", block=3).aligned_block(28) == 3


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--align.weights", "none.safetensors"], "align.weights: none.safetensors is not a file"),
        (["--align.block", "4"], "align.block: 4, but the model's 4 blocks are 0 to 3"),
        (["--align.weight", "0"], "align.weight"),
        (["--data.crop", "none"], "align: needs images of one size"),
        (["--train.sharding", "full", "--optimizer.kind", "adamw"], "align: cannot be used with"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(argv, said):
    message = refusal(*ENCODER, *argv)
    assert said in message
    assert len(message.splitlines()) == 1


def test_a_block_that_lacks_routed_tokens_is_refused_and_others_are_not():
    route = ("--model.depth", "12", "--train.route.first", "3", "--train.route.last", "8")
    for block in (3, 7):
        message = refusal(*ENCODER, *route, "--align.block", str(block))
        assert f"align.block: {block} lacks the tokens that train.route takes" in message
        assert "blocks 3 to 7" in message
    for block in (2, 8):
        assert read(*ENCODER, *route, "--align.block", str(block)).align.block == block


def test_stored_latents_have_no_images_to_look_at():
    said = list(AlignConfig(encoder="x").misfits(depth=4, stored_latents=True))
    assert said == ["align: the encoder sees images, and data.kind latents has none; take no align"]
