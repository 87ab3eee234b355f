"""What one user does, over and over: submit a recording, poll, read the words, delete, and find it gone."""

import os
from argparse import ArgumentParser, Namespace
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent  # type: ignore[import-untyped] # comes with locust, without types
from locust import FastHttpUser, events, task
from locust.env import Environment

_AUDIO = (Path(__file__).parent.parent / "audio/cards_001.wav").read_bytes()
_KEYS = cycle(os.environ["VOLANT_APIKEYS"].split(","))
_PATIENCE = 120.0
"""Seconds after which a job that is not finished counts as an error."""
_JOBS = "job"
"""The kind under which the report shows jobs, as opposed to requests."""


class User(FastHttpUser):
    """A user of one of the tenants."""

    network_timeout = 60.0

    def on_start(self) -> None:
        self.key = next(_KEYS)

    @task
    def transcribe(self) -> None:
        """Use the service as a client does."""
        began = perf_counter()
        id_ = self._submit()
        if not id_:
            return
        job = self._finished(id_)
        self._report_job(began, job)
        if job and self._call("DELETE", id_, expected=204) is not None:
            self._call("GET", id_, expected=404, name="GET a deleted job")

    def _submit(self) -> str:
        job = self._call("POST", "", expected=201, data=_AUDIO, headers={"Content-Type": "audio/wav"})
        return str(job["id"]) if job else ""

    def _finished(self, id_: str) -> dict[str, Any] | None:
        delay, give_up = 0.1, perf_counter() + _PATIENCE
        while perf_counter() < give_up:
            gevent.sleep(delay)
            job = self._call("GET", id_, expected=200)
            if job is None or job["status"] in {"completed", "failed"}:
                return job
            delay = min(delay * 1.3, 2.0)
        return None

    def _report_job(self, began: float, job: dict[str, Any] | None) -> None:
        right = job is not None and job["status"] == "completed" and "clubs" in str(job["results"])
        self.environment.events.request.fire(
            request_type=_JOBS,
            name="submitted to completed",
            response_time=(perf_counter() - began) * 1000,
            response_length=0,
            exception=None if right else AssertionError(f"ended as {job}"),
            context={},
        )

    def _call(self, method: str, id_: str, *, expected: int, name: str = "", **options: Any) -> dict[str, Any] | None:
        """Return the reply's body, or None when it is not as expected, which counts as an error."""
        path = "/v1/recognitions" + (f"/{id_}" if id_ else "")
        with self.client.request(
            method,
            path,
            name=name or f"{method} {'a job' if id_ else 'recognitions'}",
            auth=("apikey", self.key),
            catch_response=True,
            **options,
        ) as response:
            if response.status_code != expected:
                response.failure(f"{response.status_code} rather than {expected}: {response.text}")
                return None
            response.success()
            body: dict[str, Any] = response.json() if response.content else {}
            return body


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_bounds(parser: ArgumentParser) -> None:
    """Let the bounds be given on the command line."""
    parser.add_argument("--max-errors", type=float, default=0.0)
    parser.add_argument("--max-p95", type=float, default=1500.0)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def judge(environment: Environment, **_more: Any) -> None:
    """Fail the run when nothing was finished, too much went wrong, or a kind of request was too slow."""
    bounds = environment.parsed_options or Namespace()
    stats = environment.stats
    broken = [
        f"{entry.method} {entry.name}: 95 of 100 took up to {slow:.0f} ms"
        for entry in stats.entries.values()
        if entry.method != _JOBS and (slow := entry.get_response_time_percentile(0.95)) > bounds.max_p95
    ]
    if stats.total.fail_ratio > bounds.max_errors:
        broken.append(f"{stats.total.fail_ratio:.2%} of the requests went wrong")
    jobs = [entry for entry in stats.entries.values() if entry.method == _JOBS]
    if not jobs:
        broken.append("not one job was finished")
    for sentence in broken:
        print(f"BOUND BROKEN: {sentence}")
    environment.process_exit_code = 1 if broken else 0
