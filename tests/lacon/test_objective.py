"""What an aligner learns from: pictures and maps, times and labels, the loss of a batch."""

import pytest
import torch

from diffgen.data.digits import Digits
from diffgen.data.shapes import Shapes
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import DEPTH, EDGE, MASK, PALETTE
from diffgen.lacon.maps import has_own_maps, maps_of
from diffgen.lacon.training import (
    AlignerObjective,
    MappedData,
    Reader,
    model_labels,
    with_positions,
)
from diffgen.pipeline import DiffGenPipeline
from diffgen.training.draws import draw
from tests.lacon_runs import pipeline

IMAGES = Shapes(16, 16, "train")
DATA = MappedData(IMAGES, 0, PALETTE)


def objective_of(pipe: DiffGenPipeline, **options) -> AlignerObjective:
    given = {"seed": 0, "class_dropout": 0.5, "low": 0.1, "labels": torch.arange(8), **options}
    reader = Reader(PALETTE, torch.device("cpu"))
    return AlignerObjective(denoiser=pipe.denoiser([]), reader=reader, blocks=(0, 1), **given)


def batch_of(numbers: list[int]) -> dict:
    samples = [DATA[number] for number in numbers]
    labels = torch.tensor([sample["label"] for sample in samples])
    image = torch.stack([sample["image"] for sample in samples])
    return {"image": image, "label": labels, "number": torch.tensor(numbers)}


class TestMaps:
    def test_shapes_bring_their_own_where_they_have_them_and_digits_none(self):
        assert [has_own_maps(IMAGES, c) for c in (MASK, DEPTH, EDGE)] == [True, True, False]
        assert not has_own_maps(Digits(16, 16, "train"), MASK)
        own = torch.stack([IMAGES.maps(i)["mask"] for i in (3, 0)])
        found = maps_of(IMAGES, [3, 0], MASK)
        assert torch.equal(found, (own >= 0.5).float())
        pictures = torch.stack([IMAGES[i][0] for i in (3, 0)])
        assert not torch.equal(found, MASK.of(pictures))
        assert torch.equal(maps_of(IMAGES, [3, 0], PALETTE), PALETTE.of(pictures))

    def test_a_training_reads_the_same_ones(self):
        data = MappedData(IMAGES, 3, MASK)
        samples = [data[number] for number in (0, 17)]
        places = [data.order.index(number) for number in (0, 17)]
        pictures, stored = (torch.stack([s[key] for s in samples]) for key in ("image", "map"))
        x0, maps = Reader(MASK, torch.device("cpu"))(pictures, stored)
        assert torch.equal(x0, torch.stack([IMAGES[place][0] for place in places]))
        assert torch.equal(maps, maps_of(IMAGES, places, MASK))
        assert "map" not in MappedData(IMAGES, 3, EDGE)[0]


class TestLoss:
    @pytest.mark.parametrize(
        "options",
        [{}, {"position": {"kind": "rpe2d", "inference": "random"}}],
        ids=["sincos", "drawn positions"],
    )
    def test_of_a_sample_it_is_its_own_whatever_the_batch(self, options):
        pipe = pipeline(**options)
        objective = objective_of(pipe)
        torch.manual_seed(0)
        aligner = Aligner.of(pipe.transformer, "palette", 3)
        with torch.no_grad():
            together = objective(aligner, batch_of([4, 5, 6, 7]))
            alone = [objective(aligner, batch_of([n])) for n in (4, 5, 6, 7)]
            again = objective(aligner, batch_of([4, 5, 6, 7]))
            other = objective(aligner, batch_of([8, 9, 10, 11]))
        assert together == again
        assert together.item() == pytest.approx(float(torch.stack(alone).mean()), rel=1e-5)
        assert abs(float(other - together)) > 1e-4
        drawn = with_positions(objective.denoiser, 0, [4, 5]).position_seeds
        assert (drawn is None) == (options == {})

    def test_only_the_aligner_gets_gradients_and_the_frozen_model_keeps_nothing(self):
        pipe = pipeline()
        pipe.transformer.requires_grad_(False)
        before = {name: p.clone() for name, p in pipe.transformer.named_parameters()}
        aligner = Aligner.of(pipe.transformer, "palette", 3, fusion="mix")
        optimiser = torch.optim.AdamW(aligner.parameters(), 0.1)
        objective_of(pipe)(aligner, batch_of([0, 1, 2, 3])).backward()
        assert all(p.grad.abs().max() > 0 for p in aligner.parameters())
        optimiser.step()
        assert not pipe.transformer.training
        assert all(p.grad is None for p in pipe.transformer.parameters())
        for name, p in pipe.transformer.named_parameters():
            assert torch.equal(p, before[name])

    def test_labels_are_dropped_and_an_unconditional_model_knows_none(self):
        """With every label dropped, classes make no difference; with none dropped they do."""
        batch = batch_of([0, 1, 2, 3])
        moved = {**batch, "label": (batch["label"] + 1) % 8}

        def losses(pipe, **options) -> list[float]:
            objective = objective_of(pipe, **options)
            torch.manual_seed(0)
            aligner = Aligner.of(pipe.transformer, "palette", 3)
            return [objective(aligner, one).item() for one in (batch, moved)]

        dropped, kept = (losses(pipeline(), class_dropout=share) for share in (1.0, 0.0))
        assert dropped[0] == dropped[1]
        assert kept[0] != kept[1]
        blind = losses(pipeline(num_classes=0), class_dropout=0.0, labels=torch.zeros(8).long())
        assert blind[0] == blind[1]


def test_times_are_uniform_above_the_lowest_and_belong_to_the_samples():
    draw_time = objective_of(pipeline(), low=0.2).draw_time
    t, drop, noise = draw(draw_time, 7, list(range(2000)), (1, 2, 2))
    assert 0.2 <= t.min() < 0.205
    assert 0.995 < t.max() < 1
    assert t.mean() == pytest.approx(0.6, abs=0.02)
    assert drop.mean() == pytest.approx(0.5, abs=0.03)
    alone = draw(draw_time, 7, [1234], (1, 2, 2))
    for mine, all_of in zip(alone, (t, drop, noise), strict=True):
        assert torch.equal(mine[0], all_of[1234])
    assert not torch.equal(draw(draw_time, 8, [1234], (1, 2, 2))[2], alone[2])


def test_classes_are_known_by_name_or_where_the_model_has_no_names_by_number():
    assert model_labels(["star", "ring"], ["ring", "heart", "star"], 3) == ([2, 0], True)
    assert model_labels(["a", "star"], ["ring", "heart", "star"], 3) == ([3, 3], False)
    assert model_labels(["a", "b"], [], 2) == ([0, 1], True)
    assert model_labels(["a", "b"], [], 1000) == ([1000, 1000], False)
    assert model_labels(["a", "b"], [], 0) == ([0, 0], True)
