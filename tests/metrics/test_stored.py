"""Statistics in files: written and read back, other tools' pickles, and what may be compared."""

import hashlib
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import timm
import torch

from diffgen.config.npz import inspect_npz
from diffgen.config.resizes import Resize
from diffgen.errors import UserError
from diffgen.metrics import load_extractor
from diffgen.metrics.inception import described as described_inception
from diffgen.metrics.moments import moments
from diffgen.metrics.pickled import read_pickle
from diffgen.metrics.stored import (
    StoredSet,
    checked_moments,
    moments_digest,
    read_stored,
    write_stored,
)
from diffgen.metrics.timm_model import described

FEATURES = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()


def as_edm2(features: torch.Tensor) -> dict:
    """What EDM2's calculate_metrics.py pickles."""
    found = {"mu": features.mean(0).numpy(), "sigma": torch.cov(features.T).numpy()}
    return {"num_images": len(features), "fid": found, "fd_dinov2": found}


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_pickle(path, "source")
    assert str(caught.value).startswith(f"source: {path}")
    return str(caught.value)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickle_of_arrays_reads_as_pickle_itself_reads_it(tmp_path, protocol):
    content = {
        **as_edm2(FEATURES),
        "columns": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        "bytes": np.arange(3, dtype=np.uint8),
        "one": np.float32(0.1),
        "text": ["fid", None, True, 2.5],
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    found, expected = read_pickle(path, "source"), pickle.loads(path.read_bytes())
    for metric in ("fid", "fd_dinov2"):
        for name in ("mu", "sigma"):
            np.testing.assert_array_equal(found[metric][name], expected[metric][name])
            assert found[metric][name].flags.writeable
    np.testing.assert_array_equal(found["columns"], content["columns"])
    np.testing.assert_array_equal(found["bytes"], content["bytes"])
    assert found["one"] == content["one"]
    assert found["text"] == content["text"]


def test_pickles_of_numpy_1_read_too(tmp_path):
    path, whole = tmp_path / "a.pkl", pickle.dumps(as_edm2(FEATURES), 3)
    path.write_bytes(whole.replace(b"numpy._core.", b"numpy.core."))
    assert b"numpy.core.multiarray" in path.read_bytes()
    found = read_pickle(path, "source")
    np.testing.assert_array_equal(found["fid"]["mu"], FEATURES.mean(0))


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path):
    path, mark = tmp_path / "bad.pkl", tmp_path / "mark"
    traps = {
        "system": Calls(os.system, f"touch {mark}"),
        "exec": Calls(exec, f"open({str(mark)!r}, 'w')"),
        "load": Calls(np.load, str(mark)),
        "fromfile": Calls(np.fromfile, str(mark)),
        "getattr": Calls(getattr, np.dtype, "type"),
    }
    for name, trap in traps.items():
        path.write_bytes(pickle.dumps({**as_edm2(FEATURES), "more": trap}))
        assert re.search(rf"it names \w[\w.]*\.{name}$", refused(path))
    assert not mark.exists()
    pickle.loads(pickle.dumps(traps["system"]))
    assert mark.exists()  # it would have


def test_arrays_of_anything_but_numbers_and_damaged_pickles_are_refused(tmp_path):
    path = tmp_path / "bad.pkl"
    pair = np.zeros(2, [("a", "f4"), ("b", "O")])
    for array in (np.array([{}, 1], object), np.array(["a"]), pair, np.array([1j])):
        path.write_bytes(pickle.dumps({"mu": array}))
        assert "no pickle of numpy arrays and plain values alone" in refused(path)
    whole = pickle.dumps(as_edm2(FEATURES))
    for damaged in (b"", whole[:50], whole[:-100], b"\x80\x04K\x01", b"text"):
        path.write_bytes(damaged)
        refused(path)
    refused(tmp_path / "gone.pkl")


def test_statistics_come_back_bit_for_bit_under_their_names(tmp_path):
    reader = load_extractor()
    first = StoredSet({"name": "inception"}, {"features": moments(FEATURES)})
    second = StoredSet(reader.facts(), {"features": moments(FEATURES[:, :3])})
    path, images = tmp_path / "a.npz", {"arr_0": np.zeros((2, 8, 12, 3), np.uint8)}
    header = {"num_images": 40, "size": "8x12"}
    write_stored(path, {"inception": first, "reader": second}, header, images)
    with np.load(path) as arrays:
        assert set(arrays) == {"arr_0", "mu", "sigma", "reader.mu", "reader.sigma", "header"}
        np.testing.assert_array_equal(arrays["mu"], FEATURES.mean(0))
    found = inspect_npz(path, "r")
    assert (found.count, found.size, found.header["size"]) == (2, (8, 12), "8x12")
    stored = read_stored(path, found)
    assert stored["reader"].facts == reader.facts()
    for title, one in {"inception": first, "reader": second}.items():
        kept = stored[title].moments["features"]
        assert kept.count == 40
        assert torch.equal(kept.mean, one.moments["features"].mean)
        assert torch.equal(kept.cov, one.moments["features"].cov)


def test_other_names_in_a_file_without_header_are_no_statistics_of_inception(tmp_path):
    mean, cov = np.zeros(3), np.eye(3)
    np.savez(tmp_path / "a.npz", mu=mean, sigma=cov, **{"vgg.mu": mean, "vgg.sigma": cov})
    stored = read_stored(tmp_path / "a.npz", inspect_npz(tmp_path / "a.npz", "r"))
    assert list(stored) == ["inception"]
    assert stored["inception"].moments["features"].count is None


def test_statistics_fit_what_states_the_same_network_weights_and_preprocessing():
    reader = load_extractor()
    facts, some = reader.facts(), {"features": moments(FEATURES)}
    assert StoredSet(facts, some).fits(reader)
    assert StoredSet({**facts, "weights_sha256": None}, some).fits(reader)  # not stated
    for name in ("name", "weights_sha256", "preprocessing"):
        assert not StoredSet({**facts, name: "another"}, some).fits(reader)


def test_statistics_that_state_nothing_fit_inception_by_tensorflows_resize_alone():
    reader, silent = load_extractor(), StoredSet(None, {"features": moments(FEATURES)})
    assert not silent.fits(reader)
    for resize in get_args(Resize):
        network = replace(reader, name="inception", preprocessing=described_inception(resize))
        assert silent.fits(network) == (resize == "tf1_bilinear")


def test_a_digest_is_that_of_the_float64_values_and_tells_the_last_bit():
    found = moments(FEATURES)
    raw = found.mean.numpy().tobytes() + found.cov.numpy().tobytes()
    assert moments_digest(found) == hashlib.sha256(raw).hexdigest()
    found.cov[2, 3] = np.nextafter(float(found.cov[2, 3]), np.inf)
    assert moments_digest(found) != hashlib.sha256(raw).hexdigest()


def test_what_is_no_covariance_is_refused_by_name():
    mean, cov = np.zeros(2), np.eye(2)
    nan, skew = np.array([0, np.nan]), np.array([[1.0, 1.0], [0.0, 1.0]])
    for wrong in (
        (nan, cov),
        (mean, skew),
        (mean, -cov),
        (mean, None),
        (mean, np.eye(3)),
        ("a", 1),
    ):
        with pytest.raises(UserError, match="source: mu and sigma of it: "):
            checked_moments("source: mu and sigma of it", *wrong, 9)


@pytest.mark.parametrize("resize", [None, "torch_bicubic_antialias"])
@pytest.mark.parametrize("side", [None, 64])
def test_a_preprocessing_is_told_without_weights_as_the_network_tells_it(tmp_path, resize, side):
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "a.pth")
    made = load_extractor("test_efficientnet", tmp_path / "a.pth", "cpu", resize, side)
    assert described("test_efficientnet", side, resize) == made.preprocessing
