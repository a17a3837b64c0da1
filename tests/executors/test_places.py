"""Where jobs go, without running any."""

import random
from collections import Counter
from pathlib import Path

import pytest

from epsgrid.executors import Alone, Job, _memory
from epsgrid.executors._places import Place, Places
from tests.executors.fake_gpus import UUIDS, install


def _job(number: int, alone: Alone = Alone.NO) -> Job:
    return Job("nowhere", str(number), alone)


def _places(*devices: str, slots: int) -> Places:
    return Places(devices, slots, list, {})


@pytest.fixture(autouse=True)
def memory_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the machine's nor a device's, unless a test says so."""
    monkeypatch.setattr(_memory, "_PROC", tmp_path / "no proc")
    install(tmp_path, monkeypatch)


def _take(places: Places, *jobs: Job) -> list[str | None]:
    """Return the device that each job got, "wait" for one that got none."""
    found = [places.take(job) for job in jobs]
    return ["wait" if place is None else place.device for place in found]


def test_jobs_go_to_the_device_with_the_fewest() -> None:
    places = _places("a", "b", "c", slots=6)
    assert _take(places, *map(_job, range(7))) == ["a", "b", "c", "a", "b", "c", "wait"]


def test_the_place_that_is_left_is_filled() -> None:
    places = _places("a", "b", slots=4)
    taken = [places.take(_job(number)) for number in range(4)]
    assert taken[1] is not None
    places.leave(_job(1), taken[1])
    assert _take(places, _job(4), _job(5)) == ["b", "wait"]


def test_processors_are_one_place() -> None:
    assert _take(_places(slots=3), *map(_job, range(4))) == [None, None, None, "wait"]


def test_slots_that_do_not_divide_are_all_used() -> None:
    assert _take(_places("a", "b", slots=3), *map(_job, range(4))) == ["a", "b", "a", "wait"]


def test_alone_on_a_device_and_beside_other_devices() -> None:
    places = _places("a", "b", slots=4)
    first = places.take(_job(0))
    assert _take(places, _job(1, Alone.ON_DEVICE)) == ["b"]
    assert _take(places, _job(2), _job(3)) == ["a", "wait"], "nothing joins the one that is alone"
    assert first is not None
    places.leave(_job(0), first)
    assert _take(places, _job(4, Alone.ON_DEVICE)) == ["wait"], "one is still there"
    places.leave(_job(2), first)
    assert _take(places, _job(4, Alone.ON_DEVICE)) == ["a"]


@pytest.mark.parametrize("alone", [Alone.ON_DEVICE, Alone.ON_MACHINE])
def test_alone_on_processors_is_alone_on_the_machine(alone: Alone) -> None:
    places = _places(slots=4)
    place = places.take(_job(0))
    assert place is not None
    assert _take(places, _job(1, alone)) == ["wait"]
    places.leave(_job(0), place)
    assert _take(places, _job(1, alone), _job(2)) == [None, "wait"]


def test_alone_on_a_machine_with_devices() -> None:
    places = _places("a", "b", slots=4)
    place = places.take(_job(0))
    assert place is not None
    assert _take(places, _job(1, Alone.ON_MACHINE)) == ["wait"]
    places.leave(_job(0), place)
    assert _take(places, _job(1, Alone.ON_MACHINE), _job(2)) == ["a", "wait"]


def test_whatever_comes_and_goes_the_rules_hold() -> None:
    """A random course, looked at from outside: nothing is overfull, who is alone is so, and nothing stands still."""
    chance = random.Random(0)
    for devices, slots in (((), 3), (("a", "b"), 2), (("a", "b", "c"), 7)):
        places, running = _places(*devices, slots=slots), list[tuple[Job, Place]]()
        for number in range(300):
            job = _job(number, chance.choice([Alone.NO, Alone.NO, Alone.NO, Alone.ON_DEVICE, Alone.ON_MACHINE]))
            while (place := places.take(job)) is None:
                assert running, "nothing runs, and yet the job must wait"
                ended, left = running.pop(chance.randrange(len(running)))
                places.leave(ended, left)
            running.append((job, place))
            load = Counter(place.device for _, place in running)
            assert sum(load.values()) <= slots
            assert max(load.values()) <= -(-slots // max(1, len(devices)))
            for one, place in running:
                assert not (one.alone and load[place.device] > 1)
                assert not (one.alone == Alone.ON_MACHINE and len(running) > 1)


def test_a_device_that_is_full_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_memory, "_LOOK_S", 0.0)
    (tmp_path / "more").mkdir()
    gpus = install(tmp_path / "more", monkeypatch, 2)

    def say(*used: int) -> None:
        gpus.memory(*(f"{number}, {UUIDS[number]}, H200, {mib}, 10000" for number, mib in enumerate(used)))

    say(0, 0)
    places = _places(*UUIDS[:2], slots=6)
    assert _take(places, _job(0), _job(1)) == list(UUIDS[:2])
    say(6000, 4000)
    assert _take(places, _job(2)) == [UUIDS[1]], "6000 more do not fit beside 6000, 4000 do beside 4000"
    say(6000, 8000)
    assert _take(places, _job(3)) == ["wait"]
    told = capsys.readouterr().err
    assert "a trial takes up to 5.9 GiB, and 3.9 GiB of the memory of CUDA device GPU-aaaa1111-0 are left" in told


def test_a_machine_that_is_full_holds_back_all_but_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_PROC", tmp_path)
    monkeypatch.setattr(_memory, "_LOOK_S", 0.0)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("VmHWM: 900 kB\nRssAnon: 900 kB\nRssFile: 0 kB\nRssShmem: 0 kB\n")
    (tmp_path / "meminfo").write_text("MemAvailable: 800 kB\n")
    places = Places((), 4, lambda: [7], {})
    place = places.take(_job(0))
    assert place is not None, "one always runs"
    assert places.take(_job(1)) is None
    (tmp_path / "meminfo").write_text("MemAvailable: 1000 kB\n")
    assert places.take(_job(1)) is place


def test_one_trial_per_device_needs_no_look_at_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more").mkdir()
    gpus = install(tmp_path / "more", monkeypatch, 2)
    assert _take(_places(*UUIDS[:2], slots=2), *map(_job, range(3))) == [*UUIDS[:2], "wait"]
    assert gpus.asked == 0
