"""The store: whole records or none, whatever happens to the disk or beside us."""

import multiprocessing
import os
import warnings

import pytest
import torch

from kdlab import store
from kdlab.errors import KdlabError

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7), "mask": torch.tensor([True, False])}


def files() -> list[str]:
    return sorted(p.name for p in (store.home() / "store").iterdir() if p.suffix != ".lock" and p.name != ".lock")


def test_what_is_saved_comes_back():
    assert store.load("a") is None
    assert store.save("a", TENSORS, {"epoch": 3, "rows": [{"loss": 0.5}]})
    record = store.load("a")
    assert record.facts == {"epoch": 3, "rows": [{"loss": 0.5}]}
    assert all(torch.equal(record.tensors[k], v) and record.tensors[k].dtype == v.dtype for k, v in TENSORS.items())


def test_tensors_that_share_memory_and_views_are_fine():
    base = torch.randn(4, 4)
    assert store.save("views", {"a": base[:, 0], "b": base.t(), "c": base}, {})
    assert torch.equal(store.load("views").tensors["b"], base.t())


@pytest.mark.parametrize("harm", [lambda raw: raw[:-5], lambda raw: raw[:30], lambda raw: b"", lambda raw: b"{}" * 40])
def test_a_truncated_record_counts_as_none_and_is_removed(harm):
    store.save("a", TENSORS, {})
    store.path("a").write_bytes(harm(store.path("a").read_bytes()))
    assert store.load("a") is None and files() == []


def test_a_flipped_bit_is_noticed():
    store.save("a", TENSORS, {})
    raw = bytearray(store.path("a").read_bytes())
    raw[-3] ^= 1
    store.path("a").write_bytes(bytes(raw))
    assert store.load("a") is None


def test_a_full_disk_warns_and_leaves_nothing_half_written(monkeypatch):
    store.save("a", {"x": torch.ones(1)}, {})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left.*KDLAB_HOME"):
        assert not store.save("a", {"x": torch.zeros(1)}, {})
    assert files() == ["a.safetensors"] and store.load("a").tensors["x"].item() == 1


def test_an_interrupt_while_writing_leaves_the_old_record(monkeypatch):
    store.save("a", {"x": torch.ones(1)}, {})
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.save("a", {"x": torch.zeros(1)}, {})
    assert files() == ["a.safetensors"] and store.load("a").tensors["x"].item() == 1


def write_many(home: str, number: int) -> None:
    os.environ["KDLAB_HOME"] = home
    for _ in range(20):
        store.save("shared", {"x": torch.full((1000,), float(number))}, {"writer": number})


def test_two_kernels_writing_the_same_name_never_show_a_mixture():
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(os.environ["KDLAB_HOME"], n)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while any(writer.is_alive() for writer in writers):
            record = store.load("shared")
            assert record is None or record.tensors["x"].unique().tolist() == [record.facts["writer"]]
    assert [writer.exitcode for writer in writers] == [0, 0] and files() == ["shared.safetensors"]


def test_usage_and_clear():
    store.save("a", TENSORS, {})
    store.save("b", TENSORS, {})
    count, size = store.usage()
    assert count == 2 and size == sum(store.path(n).stat().st_size for n in "ab")
    assert store.clear() == 2 and store.usage() == (0, 0)


@pytest.mark.parametrize("name", ["", "../escape", "a/b", "a.b"])
def test_a_name_cannot_leave_the_folder(name):
    with pytest.raises(KdlabError, match="cannot name a record"):
        store.path(name)
