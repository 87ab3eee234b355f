"""What a newcomer types works: `make run`, `make demo`, and `volant transcribe` against what runs."""

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from deploy.processes import ROOT, Process, environment, temporary_directory
from deploy.stack import Stack
from tests.ports import reserved_port
from tests.recognizers import recording

SPEECH = ROOT / "tests/audio/goforward.wav"


def run_volant(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["volant", *arguments],  # noqa: S607 - the PATH is ours
        env=environment({name: value for name, value in settings.items() if value}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def running(data: Path, log: Path, **variables: str) -> Iterator[Process]:
    """Start what `make run` starts, on a directory and at a port of its own, and end it if the test has not."""
    with reserved_port() as port, started(data, log, **{"PORT": str(port), **variables}) as process:
        yield process


@contextmanager
def started(data: Path, log: Path, **variables: str) -> Iterator[Process]:
    code = f"import sys; from pathlib import Path; from deploy.run import main; sys.exit(main(Path({str(data)!r})))"
    process = Process("run", [sys.executable, "-c", code], log=log, environment=environment({}) | variables)
    try:
        yield process
    finally:
        process.stop(patience=30)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda ending: ending.name)
def test_run_serves_until_a_signal_and_leaves_no_process(ending: signal.Signals, tmp_path: Path) -> None:
    """`make run` writes address and key for scripts, serves, and at a signal stops all and takes the file away."""
    with temporary_directory() as data, running(data, tmp_path / "run.log") as process:
        url, apikey = address_and_key(process, data)
        run_env = data / "run.env"
        assert run_env.stat().st_mode & 0o777 == 0o600
        assert url in process.printed()
        assert process.printed().count("  curl ") == 3
        assert f"{url}/docs" in process.printed()
        assert allowed_origin(url) == "*"
        said = run_volant("transcribe", str(SPEECH), url=url, apikey=apikey)
        assert said.stdout == "go forward ten meters\n", said.stderr
        given = dict(line.split("=", 1) for line in run_env.read_text().splitlines())
        settings = {name.removeprefix("VOLANT_").lower(): value for name, value in given.items()}
        assert run_volant("tenant", "list", **settings).stdout.endswith("  development\n")

        process.send_signal(ending)
        assert process.wait(30) == 0
        assert "\nStopping … " in process.printed()
        assert not run_env.exists()
        assert processes_of(data) == []


def test_run_speaks_tls_when_asked_to(tmp_path: Path) -> None:
    """With certificates of an authority that stays; scripts and `curl` are told of it."""
    with temporary_directory() as data:
        authorities = set()
        for number in range(2):
            variables = {"TLS": "1"}
            with running(data, tmp_path / f"{number}.log", **variables) as process:
                url, apikey = address_and_key(process, data)
                assert url.startswith("https://127.0.0.1:")
                ca = data / "tls/ca.pem"
                assert f"SSL_CERT_FILE={ca}\n" in (data / "run.env").read_text()
                assert process.printed().count(f"  curl --cacert {ca} -u apikey:") == 3
                assert jobs_in(url, apikey, ca) == []
                authorities.add(ca.read_bytes())
        assert len(authorities) == 1
        assert {path.stat().st_mode & 0o777 for path in (data / "tls").iterdir()} == {0o600}
        assert (data / "tls").stat().st_mode & 0o777 == 0o700


def test_run_finds_its_data_and_its_tenant_again(tmp_path: Path) -> None:
    """What was stored survives a restart; the tenant is the same, the key of the run before is revoked."""
    with temporary_directory() as data:
        with running(data, tmp_path / "first.log") as process:
            url, first_key = address_and_key(process, data)
            kept = run_volant("transcribe", str(SPEECH), "--keep", url=url, apikey=first_key)
            assert kept.returncode == 0, kept.stderr
        tenant = (data / "tenant").read_text()
        variables = {"VOLANT_CORS_ORIGINS": ""}
        with running(data, tmp_path / "second.log", **variables) as process:
            url, second_key = address_and_key(process, data)
            assert (data / "tenant").read_text() == tenant
            [job] = jobs_in(url, second_key)
            assert job in kept.stderr
            refused = run_volant("transcribe", str(SPEECH), url=url, apikey=first_key)
            assert refused.returncode == 1
            assert "the API key is not accepted" in refused.stderr
            assert allowed_origin(url) is None  # the caller's own settings hold


def test_a_job_that_is_interrupted_goes_on_at_the_next_start(tmp_path: Path) -> None:
    """Ctrl-C in the midst of it leaves no process and no error, and costs no attempt."""
    with temporary_directory() as data:
        variables = {"VOLANT_RECOGNIZER": "tests.recognizers:Scripted", "VOLANT_DRAIN": "1"}
        with running(data, tmp_path / "first.log", **variables) as process:
            url, apikey = address_and_key(process, data)
            job = asked(url, apikey, body=recording(10))["id"]
            process.wait_until(lambda: asked(url, apikey, job)["status"] == "processing", "working")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert processes_of(data) == []
        said = (data / "worker-1.log").read_text()
        assert '"worker stopped"' in said
        assert "error" not in said
        assert "job completed" not in said
        with running(data, tmp_path / "second.log", **variables) as process:
            url, apikey = address_and_key(process, data)
            process.wait_until(lambda: asked(url, apikey, job)["status"] == "completed", "completed")
            [ended] = [line for line in (data / "worker-1.log").read_text().splitlines() if "job completed" in line]
            assert json.loads(ended)["attempt"] == 1


def test_run_says_when_the_port_is_taken(tmp_path: Path) -> None:
    """A port in use is a sentence that names the way out, and nothing is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with running(tmp_path / "var", tmp_path / "run.log", PORT=port) as process:
            assert process.wait(30) == 1
            assert f"port {port} cannot be had" in process.printed()
            assert not (tmp_path / "var").exists()


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("WORKERS", "0")])
def test_run_says_what_is_wrong_with_a_number(name: str, value: str, tmp_path: Path) -> None:
    """A number that is none, or too small, is a sentence."""
    with running(tmp_path / "var", tmp_path / "run.log", **{name: value}) as process:
        assert process.wait(30) == 1
        assert f"{name}={value} will not do" in process.printed()


def test_the_demo_keeps_its_promises() -> None:
    """`make demo` shows the words, the expiry, ciphertext at rest, and that nothing is left; and exits 0."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo"],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("leisure to consider", "completed at", "expires in", "submission ", "result ", "404", "is left"):
        assert expected in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


@pytest.mark.parametrize("moment", ["Starting a Redis", "1. Submit", "3. Let the worker go on"])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda ending: ending.name)
def test_the_demo_can_be_interrupted(ending: signal.Signals, moment: str, tmp_path: Path) -> None:
    """A signal ends the demonstration with all that it has started, also while something is being started."""
    with temporary_directory() as temporary:
        place = environment({}) | {"TMPDIR": str(temporary)}
        demo = Process(
            "demo", [sys.executable, "-u", "-m", "deploy.demo"], log=tmp_path / "demo.log", environment=place
        )
        demo.wait_until(lambda: moment in demo.printed(), f"past {moment!r}")
        demo.send_signal(ending)
        try:
            assert demo.wait(50) == 130
            assert processes_of(temporary) == []
        finally:
            demo.stop(patience=0)


def test_transcribe_prints_the_words_and_deletes_the_job(stack: Stack) -> None:
    """Standard output holds the transcript alone, and no job is left."""
    apikey = stack.new_tenant()[1]
    said = run_volant("transcribe", str(SPEECH), "--results-ttl", "1", url=stack.url, apikey=apikey)
    assert (said.returncode, said.stdout) == (0, "go forward ten meters\n")
    assert "completed" in said.stderr
    assert jobs_in(stack.url, apikey) == []


def test_transcribe_keeps_the_job_when_asked_to(stack: Stack, tmp_path: Path) -> None:
    """With --keep the job stays and its id is told; word times are printed when asked for; the key can be a file's."""
    apikey = stack.new_tenant()[1]
    key_file = tmp_path / "key"
    key_file.write_text(f"{apikey}\n")
    asked = ["transcribe", str(SPEECH), "--keep", "--timestamps", "--apikey-file", str(key_file)]
    said = run_volant(*asked, url=stack.url)
    assert [line.split()[2] for line in said.stdout.splitlines()] == ["go", "forward", "ten", "meters"]
    [job] = jobs_in(stack.url, apikey)
    assert job in said.stderr


def test_transcribe_says_what_went_wrong(stack: Stack, tmp_path: Path) -> None:
    """No key is wrong use; refusals, failed jobs and an absent service are sentences with exit status 1."""
    text = tmp_path / "text.wav"
    text.write_text("this is no recording at all\n" * 20)
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"fLaC" + bytes(4096))
    with reserved_port() as closed:
        for file, url, apikey, status, sentence in [
            (SPEECH, stack.url, "", 2, "Give an API key"),
            (SPEECH, "", stack.apikey, 2, "VOLANT_URL"),
            (SPEECH, stack.url, "volant_nobody_nothing", 1, "the API key is not accepted"),
            (SPEECH, f"http://127.0.0.1:{closed}", stack.apikey, 1, "cannot be reached"),
            (text, stack.url, stack.apikey, 1, "refused (415)"),
            (broken, stack.url, stack.apikey, 1, "could not be recognised"),
        ]:
            said = run_volant("transcribe", str(file), url=url, apikey=apikey)
            assert said.returncode == status, said.stderr
            assert sentence in said.stderr
            assert "Traceback" not in said.stderr
            assert said.stdout == ""


def address_and_key(process: Process, data: Path) -> tuple[str, str]:
    """Wait until Volant runs, and return what it tells scripts."""
    process.wait_until(lambda: "Volant is running" in process.printed(), "running")
    given = dict(line.split("=", 1) for line in (data / "run.env").read_text().splitlines())
    return given["VOLANT_URL"], given["VOLANT_APIKEY"]


def jobs_in(url: str, apikey: str, ca: Path | None = None) -> list[str]:
    """Return the ids of a tenant's jobs, as the service lists them; over TLS, if an authority is trusted."""
    return [job["id"] for job in asked(url, apikey, ca=ca)["recognitions"]]


def asked(url: str, apikey: str, job: str = "", *, body: bytes | None = None, ca: Path | None = None) -> dict[str, Any]:
    """Return what the service says of all jobs, or of one; or of a new one, if there is a recording."""
    credentials = base64.b64encode(f"apikey:{apikey}".encode()).decode()
    host = url.partition("://")[2]
    trust = ssl.create_default_context(cafile=ca)
    with closing(
        HTTPSConnection(host, timeout=30, context=trust) if ca else HTTPConnection(host, timeout=30)
    ) as connection:
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "audio/wav"}
        connection.request("POST" if body else "GET", f"/v1/recognitions/{job}".rstrip("/"), body, headers)
        said: dict[str, Any] = json.load(connection.getresponse())
        return said


def allowed_origin(url: str) -> str | None:
    """Return which origins' pages may use the service, as its refusals tell a browser."""
    with closing(HTTPConnection(url.removeprefix("http://"), timeout=30)) as connection:
        connection.request("GET", "/v1/recognitions", headers={"Origin": "https://a.example"})
        return connection.getresponse().getheader("Access-Control-Allow-Origin")


def processes_of(data: Path) -> list[str]:
    """Return the command lines of all processes that were told of this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(data) in told:
                found.append((entry / "cmdline").read_text())
    return found
