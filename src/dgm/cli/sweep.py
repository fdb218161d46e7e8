"""`dgm train -m`: every combination of the swept values, or a search over them, then one table of all of it."""

import json
import sys

from hydra.core.utils import JobReturn, JobStatus

from dgm.cli.compose import tree
from dgm.cli.job import Job, perform
from dgm.cli.main import sentence
from dgm.cli.table import summary
from dgm.cli.terminal import show_search
from dgm.runs import Run


def sweep(words: list[str]) -> int:
    """Run all points; exit code 1 where any of them failed."""
    with tree(words) as (hydra, overrides):
        jobs = hydra.multirun("train", Job(wait=False), overrides, with_log_configuration=False)
    runs = [finished(one) for one in jobs]
    failed = [one for one in jobs if one.status is not JobStatus.COMPLETED]
    for one in failed:
        print(f"Failed: {' '.join(one.overrides)}: {sentence(one._return_value)}", file=sys.stderr)
    summary([run for run in runs if run and run.state == "done"])
    for folder in {run.folder.parent for run in runs if run}:
        if (folder / "search.json").is_file():
            show_search(json.loads((folder / "search.json").read_text()))
    before = sum(one.cfg is None for one in jobs)  # never launched
    told = f", {before} of them before" if before else ""
    print(f"{len(jobs) - len(failed)} of {len(jobs)} jobs done{told}", file=sys.stderr)
    return 1 if failed else 0


def finished(job: JobReturn) -> Run | None:
    """A job's run; one that was left to another process is waited for, and taken over where that one ends early."""
    run = job._return_value
    if job.status is JobStatus.COMPLETED and isinstance(run, Run) and run.state in ("running", "interrupted"):
        try:
            return perform(run, run.config, run.provenance["overrides"])
        except Exception as error:  # noqa: BLE001  told with the others
            job.status, job.return_value = JobStatus.FAILED, error
            return None
    return run if isinstance(run, Run) else None
