from __future__ import annotations

from pathlib import Path

from epsgrid.data._places import arrays_folder, cache_folder, data_folders


def test_the_cache_folder_follows_the_environment() -> None:
    everything = {"EPSGRID_CACHE": "/a", "XDG_CACHE_HOME": "/b"}
    assert cache_folder(everything) == Path("/a")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/epsgrid")
    assert cache_folder({}) == Path.home() / ".cache" / "epsgrid"
    assert cache_folder({"EPSGRID_CACHE": "~/a"}) == Path.home() / "a"
    assert arrays_folder(everything) == Path("/a/arrays")


def test_an_empty_variable_counts_as_unset() -> None:
    assert cache_folder({"EPSGRID_CACHE": "", "XDG_CACHE_HOME": ""}) == cache_folder({})
    assert data_folders({"EPSGRID_CACHE": "/a", "EPSGRID_DATA": ""}) == (Path("/a/data"),)


def test_own_data_come_before_the_cache() -> None:
    assert data_folders({"EPSGRID_CACHE": "/a", "EPSGRID_DATA": "/d"}) == (Path("/d"), Path("/a/data"))
