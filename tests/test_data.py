"""Data: where it comes from, that it is intact, and that samples keep their index."""

import dataclasses
import gzip
import hashlib
import json
import pickle
import shutil
import struct

import numpy as np
import pytest
import torch

from kdlab import data
from kdlab.data import bundle_subset, sources
from kdlab.errors import KdlabError


@pytest.fixture
def smoke():
    return data.load(scale="smoke")


def test_bundled_splits_are_stratified_and_disjoint():
    fashion = data.load("fashion", "laptop")
    for split, per_class in ((fashion.train, 1000), (fashion.val, 200), (fashion.test, 500)):
        assert split.labels.bincount().tolist() == [per_class] * 10
        assert split.images.shape == (10 * per_class, 1, 28, 28) and split.images.dtype == torch.float32
    pictures = {row.numpy().tobytes() for row in fashion.train.images}
    assert not pictures & {row.numpy().tobytes() for row in fashion.val.images}


def test_normalised_to_zero_mean_and_unit_spread():
    images = data.load("fashion", "laptop").train.images
    assert abs(images.mean().item()) < 0.02 and abs(images.std().item() - 1) < 0.02


def test_second_load_returns_the_same_tensors():
    assert data.load(scale="smoke").train.images is data.load(scale="smoke").train.images


def test_index_survives_every_selection(smoke):
    part = smoke.train.without("bag").sample(90, seed=3).only("coat", 0)
    assert torch.equal(smoke.train.images[part.index], part.images)
    assert set(part.labels.tolist()) == {0, 4}


def test_sample_is_stratified_and_decided_by_its_seed(smoke):
    first, again, other = (smoke.train.sample(200, seed) for seed in (1, 1, 2))
    assert first.labels.bincount().tolist() == [20] * 10
    assert torch.equal(first.index, again.index) and not torch.equal(first.index, other.index)
    assert first.digest == again.digest != other.digest


def test_unlabelled_hides_every_label(smoke):
    hidden = smoke.train.unlabelled()
    assert hidden.labels.unique().tolist() == [-1] and torch.equal(hidden.images, smoke.train.images)
    assert hidden.digest != smoke.train.digest


def test_a_split_travels_light_and_comes_back_the_same(smoke):
    part = smoke.train.sample(50).unlabelled()
    packed = pickle.dumps(part)
    back = pickle.loads(packed)
    assert len(packed) < 5_000
    assert torch.equal(back.images, part.images) and back.digest == part.digest and not back.labelled


def test_own_data_travels_too():
    own = data.from_tensors(torch.randn(40, 1, 4, 4), torch.arange(40) % 2)
    back = pickle.loads(pickle.dumps(own.train))
    assert torch.equal(back.images, own.train.images) and back.digest == own.train.digest


def test_from_tensors_splits_every_class():
    own = data.from_tensors(torch.randn(200, 3, 4, 4), torch.arange(200) % 4, val=0.25, test=0.25)
    assert [len(s) for s in (own.train, own.val, own.test)] == [100, 52, 48]
    assert own.val.labels.bincount().tolist() == [13] * 4 and own.test.sealed


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: data.load("cifar"), "no data set 'cifar'"),
        (lambda: data.load(scale="huge"), "expected one of smoke, laptop, full"),
        (lambda: data.load(scale="smoke").train.without("hat"), "no class 'hat'"),
        (lambda: data.load(scale="smoke").train.sample(0), "expected 1 to 600"),
        (lambda: data.from_tensors(torch.randn(4, 2), torch.zeros(4).long()), r"expected \(N, C, H, W\)"),
        (lambda: data.from_tensors(torch.randn(4, 1, 2, 2), torch.zeros(4)), "expected integers"),
        (lambda: data.from_tensors(torch.full((4, 1, 2, 2), torch.nan), torch.zeros(4).long()), "finite"),
        (lambda: data.from_tensors(torch.randn(4, 1, 2, 2), torch.tensor([0, 1, 2, 9]), "ab"), "expected 0 to 1"),
        (lambda: data.from_tensors(torch.randn(4, 1, 2, 2), torch.zeros(4).long(), val=0.9, test=0.2), "below 1"),
    ],
)
def test_bad_requests_name_what_was_expected(call, says):
    with pytest.raises(KdlabError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_scale_variable_is_checked(monkeypatch):
    monkeypatch.setenv("KDLAB_SCALE", "tiny")
    with pytest.raises(KdlabError, match="KDLAB_SCALE is 'tiny'"):
        data.load()


@pytest.mark.parametrize("harm", ["truncated", "altered", "missing"])
def test_a_damaged_bundle_is_refused(tmp_path, harm):
    folder = tmp_path / "bundle"
    shutil.copytree(sources.BUNDLE, folder)
    raw = (folder / "fashion.xz").read_bytes()
    if harm == "truncated":
        (folder / "fashion.xz").write_bytes(raw[: len(raw) // 2])
    elif harm == "altered":
        about = json.loads((folder / "fashion.json").read_text())
        (folder / "fashion.json").write_text(json.dumps({**about, "sha256": "0" * 64}))
    else:
        (folder / "fashion.xz").unlink()
    with pytest.raises(KdlabError, match="Reinstall kdlab"):
        sources.read_bundle(folder)


# ---- the full set: found, verified, subset, downloaded; on small files made here


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny_full(tmp_path, monkeypatch):
    """A stand-in for the full set with the right file names: 20 + 10 images, every class twice and once."""
    random = np.random.default_rng(0)
    files = {
        "train-images-idx3-ubyte": idx(random.integers(0, 256, (20, 28, 28))),
        "train-labels-idx1-ubyte": idx(np.arange(20) % 10),
        "t10k-images-idx3-ubyte": idx(random.integers(0, 256, (10, 28, 28))),
        "t10k-labels-idx1-ubyte": idx(np.arange(10)),
    }
    folder = tmp_path / "full"
    folder.mkdir()
    for name, raw in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
    monkeypatch.setattr(sources, "FULL_SHA256", {n: hashlib.sha256(r).hexdigest() for n, r in files.items()})
    monkeypatch.setattr(sources, "SYSTEM_COPY", tmp_path / "nowhere")
    monkeypatch.setenv("KDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KDLAB_DATA", raising=False)
    return folder


def test_full_set_is_found_where_kdlab_data_points(tiny_full, monkeypatch):
    monkeypatch.setenv("KDLAB_DATA", str(tiny_full))
    arrays = sources.read_full()
    assert arrays["train_images"].shape == (20, 28, 28) and arrays["test_labels"].tolist() == list(range(10))


def test_full_set_may_lie_there_uncompressed(tiny_full, monkeypatch):
    for file in tiny_full.glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    monkeypatch.setenv("KDLAB_DATA", str(tiny_full))
    assert sources.read_full()["train_labels"].shape == (20,)


def test_a_wrong_kdlab_data_is_named_not_passed_over(tiny_full, monkeypatch):
    (tiny_full / "t10k-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("KDLAB_DATA", str(tiny_full))
    with pytest.raises(KdlabError, match=r"KDLAB_DATA points at .*, where t10k-labels-idx1-ubyte"):
        sources.read_full()


def test_a_missing_full_set_lists_every_way_to_get_it(tiny_full):
    with pytest.raises(KdlabError) as caught:
        sources.read_full()
    for way in ("dataset-fashion-mnist", "KDLAB_DATA", "download=True", "KDLAB_SCALE=laptop"):
        assert way in str(caught.value)


@pytest.mark.parametrize("harm", [lambda raw: raw[:-20], lambda raw: gzip.compress(b"something else")])
def test_a_damaged_full_file_is_named(tiny_full, monkeypatch, harm):
    monkeypatch.setenv("KDLAB_DATA", str(tiny_full))
    file = tiny_full / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(KdlabError, match=r"t10k-images-idx3-ubyte.gz .*Replace it with an intact copy"):
        sources.read_full()


def test_download_goes_through_torchvision_into_the_cache(tiny_full, monkeypatch):
    import functools
    import http.server
    import threading

    from torchvision.datasets import FashionMNIST

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tiny_full))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    checksums = [(f.name, hashlib.md5(f.read_bytes()).hexdigest()) for f in tiny_full.glob("*.gz")]
    monkeypatch.setattr(FashionMNIST, "resources", checksums)
    try:
        assert sources.read_full(download=True)["train_images"].shape == (20, 28, 28)
    finally:
        server.shutdown()
    assert sources.read_full()["test_images"].shape == (10, 28, 28)  # found in the cache, without the server


def test_a_failed_download_says_what_to_do(tiny_full, monkeypatch):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(KdlabError, match=r"Downloading Fashion-MNIST .* failed"):
        sources.read_full(download=True)


def test_the_bundle_is_what_its_script_makes(tmp_path, tiny_full, monkeypatch):
    monkeypatch.setenv("KDLAB_DATA", str(tiny_full))
    monkeypatch.setattr(bundle_subset, "PER_CLASS", {"train": 1, "test": 1})
    bundle_subset.write(tmp_path / "made")
    arrays = sources.read_bundle(tmp_path / "made")
    full = sources.read_full()
    assert np.array_equal(arrays["train_images"], full["train_images"][:10])
    assert np.array_equal(arrays["test_labels"], full["test_labels"])


@pytest.mark.skipif(not sources.SYSTEM_COPY.exists(), reason="needs the full Fashion-MNIST on this machine")
def test_the_committed_bundle_is_the_subset_of_the_real_set():
    made, committed = bundle_subset.subset(sources.read_full()), sources.read_bundle()
    assert all(np.array_equal(made[name], committed[name]) for name in committed)


@pytest.mark.parametrize("part", ["images", "labels", "index"])
def test_what_is_done_to_the_samples_changes_the_digest_and_travels(smoke, part):
    split = smoke.val.sample(40)
    before = split.digest
    assert pickle.loads(pickle.dumps(split)).digest == before == smoke.val.sample(40).digest
    other = dataclasses.replace(split, **{part: getattr(split, part) + 1})
    back = pickle.loads(pickle.dumps(other))
    assert back.digest == other.digest != before and torch.equal(getattr(back, part), getattr(other, part))
    getattr(split, part)[3] += 1
    changed = split.digest
    assert changed != before and pickle.loads(pickle.dumps(split)).digest == changed
    getattr(split, part)[3] -= 1
    assert part == "images" or split.digest == before  # pixels are rounded on the way


def test_a_digest_of_tensors_that_count_no_changes():
    with torch.inference_mode():
        split = data.from_tensors(torch.rand(40, 1, 4, 4), torch.arange(40) % 2).train
    before = split.digest
    assert before == split.digest
