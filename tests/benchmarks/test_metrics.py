"""The benchmark of metrics at sizes of a second: that all ways run, agree and are written down."""

import json

import pytest
import torch

from benchmarks.metrics import agree, features, main


@pytest.mark.slow
def test_every_way_runs_and_agrees_at_a_small_size(tmp_path, capsys):
    sizes = {"--count": 300, "--references": 90, "--shared": 80, "--size": 16, "--out": tmp_path}
    main([str(part) for option in sizes.items() for part in option])
    expected = {
        "fid-300x16": ["diffgen", "torchmetrics", "torch-fidelity", "scipy"],
        "overlap-80x16": ["diffgen", "diffgen-all", "torch-fidelity", "prdc"],
        "overlap-90-300x16": ["diffgen", "diffgen-all", "torch-fidelity"],
    }
    written = {path.stem.removeprefix("metrics-") for path in tmp_path.iterdir()}
    assert written == set(expected)
    for name, ways in expected.items():
        data = json.loads((tmp_path / f"metrics-{name}.json").read_text())
        assert data["schema"] == "diffgen-benchmark/1"
        assert list(data["variants"]) == ways
        assert set(data["ratios"]) == set(ways[1:])
        assert all(len(one["seconds"]) == 5 for one in data["variants"].values())
    assert "Num real" not in capsys.readouterr().out  # prdc's own print, in every call


@pytest.mark.slow
def test_one_question_alone(tmp_path):
    main(["--question", "fid", "--count", "60", "--size", "4", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics-fid-60x4.json"]


def test_ways_that_disagree_are_not_timed():
    ways = {"one": lambda: [0.5, 0.25], "other": lambda: [0.5, 0.26]}
    agree(ways, 0.0, 0.02)
    with pytest.raises(SystemExit, match="the ways disagree"):
        agree(ways, 0.0, 0.002)


def test_features_have_the_spectrum_they_should():
    variances = torch.linalg.eigvalsh(features(20_000, 8, 3, scale=2.0, shift=1.0).T.cov()).flip(0)
    torch.testing.assert_close(variances, 4 / torch.arange(1.0, 9.0), rtol=0.05, atol=0)
    mean = features(20_000, 8, 3, shift=1.0).mean(0)
    assert mean.norm().item() == pytest.approx(1, abs=0.05)
