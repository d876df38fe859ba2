"""Statistics of other tools as files of eval/reference.py."""

import pickle

import numpy as np
import pytest

from diffgen.config.npz import inspect_npz
from diffgen.config.profiles import DINOV2
from tests.e2e.references import arrays_in, keep, refusal

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_statistics_of_pytorch_fid_keep_their_values_and_what_is_known(work, capsys):
    generator = np.random.default_rng(0)
    mean, cov = generator.standard_normal(2048), np.diag(generator.random(2048))
    np.savez(work / "fid.npz", mu=mean, sigma=cov)
    argv = ("--extractor", "inception", "--resize", "torch_bilinear", "--size", "24x32")
    file = keep(work, "converted", str(work / "fid.npz"), *argv)
    title = "inception torch_bilinear"  # mu and sigma would be ADM's, which resizes otherwise
    said = f"{title}: mean and covariance of 2,048 features of an unstated number"
    assert said in capsys.readouterr().out
    arrays = arrays_in(file)
    assert "mu" not in arrays
    np.testing.assert_array_equal(arrays[f"{title}.mu"], mean)
    np.testing.assert_array_equal(arrays[f"{title}.sigma"], cov)
    header = inspect_npz(file, "r").header
    facts = header["extractors"][title]
    assert facts["preprocessing"] == "torch_bilinear to 299x299, then (x - 128) / 128"
    assert facts["weights_sha256"] is header["num_images"] is header["quantisation"] is None
    said = refusal(capsys, "reference", str(work / "fid.npz"))
    assert "give --profile adm or --extractor inception (got reader)" in said
    assert "is a reference file already" in refusal(capsys, "reference", str(file))
    argv = ("--extractor", "inception", "--size", "24x32")
    file = keep(work, "as-adm", str(work / "fid.npz"), *argv)
    np.testing.assert_array_equal(arrays_in(file)["mu"], mean)


def test_statistics_of_edm2_become_a_reference_of_both_networks(work, capsys):
    sizes = {"fid": 2048, "fd_dinov2": 1024}
    content = {k: {"mu": np.full(n, 0.5), "sigma": 2 * np.eye(n)} for k, n in sizes.items()}
    path = work / "img64.pkl"
    path.write_bytes(pickle.dumps({"num_images": 50_000, **content}))
    file = keep(work, "edm2", str(path), "--profile", "edm2", "--size", "64x64")
    found = inspect_npz(file, "r")
    dino = f"{DINOV2} torch_bicubic_antialias 224x224"
    assert list(found.statistics) == ["inception", dino]
    assert (found.header["num_images"], found.header["profile"]) == (50_000, "edm2")
    with np.load(file) as arrays:
        np.testing.assert_array_equal(arrays[f"{dino}.sigma"], 2 * np.eye(1024))
    facts = found.header["extractors"]
    assert facts["inception"]["preprocessing"].startswith("tf1_bilinear to 299x299")
    assert facts[dino]["preprocessing"].startswith("torch_bicubic_antialias to 224x224, / 255")
    assert "give --profile edm2" in refusal(capsys, "reference", str(path))
    path.write_bytes(pickle.dumps({"num_images": 50_000}))
    said = refusal(capsys, "reference", str(path), "--profile", "edm2")
    assert "must hold num_images, and mu and sigma under fid or fd_dinov2" in said
