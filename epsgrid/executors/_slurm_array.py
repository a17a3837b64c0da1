"""A job array on disk: which trial each task trains, and the marks by which tasks tell their beginning and end.

Layout of `ExperimentFolder.slurm_dir`/N::

    array.json      the array's name, what runs a trial, the trials by index; sealed
    script.sh       what was handed to sbatch
    job_id          Slurm's number of the array, for people
    I.log           what task I printed
    I.started       task I has begun
    I.ended         task I is over for good, neither queued again nor killed without a word; its exit status
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from epsgrid.errors import StoreError
from epsgrid.executors import Job
from epsgrid.store.atomic import make_folder, read_json, seal, store_errors, unseal, write_json, write_text

VERSION = 1


@dataclass(frozen=True)
class Array:
    """One job array, made once.

    Attributes:
        folder: its folder.
        name: by which Slurm's queue knows it; no other array has it.
        work: the function that runs a job, as "package.module:function".
        experiment: the jobs' experiment.
        trials: the jobs' trials; a task's index counts them.
    """

    folder: Path
    name: str
    work: str
    experiment: str
    trials: tuple[str, ...]

    @classmethod
    def create(cls, slurm_dir: Path, work: str, jobs: tuple[Job, ...]) -> Self:
        """Make a folder for an array of these jobs, the next that is free, and write down what they are."""
        experiment = jobs[0].experiment
        assert all(job.experiment == experiment for job in jobs), "a job array is of one experiment"
        name = f"epsgrid-{secrets.token_hex(6)}"
        array = cls(_new_folder(slurm_dir), name, work, experiment, tuple(job.trial for job in jobs))
        document = {"version": VERSION, "name": name, "work": work, "experiment": experiment}
        write_json(array.folder / "array.json", seal({**document, "trials": list(array.trials)}))
        return array

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the array of a folder.

        Raises:
            StoreError: there is none, or a newer version of epsgrid wrote it.
            CorruptRecordError: it is damaged.
        """
        path = folder / "array.json"
        document = unseal(read_json(path), path)
        if document["version"] > VERSION:
            raise StoreError(
                f"{path} is of version {document['version']}, this epsgrid reads {VERSION}; update epsgrid"
            )
        return cls(folder, document["name"], document["work"], document["experiment"], tuple(document["trials"]))

    def job(self, index: int) -> Job:
        """Return the job of a task."""
        return Job(self.experiment, self.trials[index])

    @property
    def script(self) -> Path:
        """What is handed to sbatch."""
        return self.folder / "script.sh"

    def log(self, index: int) -> Path:
        """Where a task's output goes."""
        return self.folder / f"{index}.log"

    def note_id(self, job_id: str) -> None:
        """Write down Slurm's number of the array."""
        write_text(self.folder / "job_id", job_id + "\n")

    def note_started(self, index: int) -> None:
        """Mark that a task has begun."""
        write_text(self.folder / f"{index}.started", "")

    def note_ended(self, index: int, status: int) -> None:
        """Mark that a task is over, with its exit status."""
        write_text(self.folder / f"{index}.ended", str(status))

    def started(self) -> frozenset[int]:
        """Return the tasks that have begun."""
        return self._marked("started")

    def ended(self) -> frozenset[int]:
        """Return the tasks that are over."""
        return self._marked("ended")

    def status(self, index: int) -> int:
        """Return the exit status of a task that is over."""
        return int((self.folder / f"{index}.ended").read_text())

    def _marked(self, mark: str) -> frozenset[int]:
        found = (path.stem for path in self.folder.glob(f"*.{mark}"))
        return frozenset(int(stem) for stem in found if stem.isdecimal())


def read_all(slurm_dir: Path) -> tuple[Array, ...]:
    """Return the arrays of an experiment, oldest first; one that was not written to its end never was submitted."""
    folders = [path for path in slurm_dir.glob("*") if path.name.isdecimal() and (path / "array.json").exists()]
    return tuple(Array.read(folder) for folder in sorted(folders, key=lambda folder: int(folder.name)))


def _new_folder(slurm_dir: Path) -> Path:
    make_folder(slurm_dir)
    for number in itertools.count(1):
        folder = slurm_dir / str(number)
        with store_errors("create the folder", folder):
            try:
                folder.mkdir()
            except FileExistsError:
                continue
        return folder
    raise AssertionError("there is always a next number")
