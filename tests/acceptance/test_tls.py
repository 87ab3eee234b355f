"""TLS and endpoints on whole processes: who is served where, by which clients, and what scanners find."""

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator

from deploy.processes import StackError
from deploy.stack import Stack
from retention.job import TenantId
from tests.acceptance.test_run_and_demo import run_volant
from tests.acceptance.test_sdk import refusal, result_of, sdk
from tests.certificates import Authority
from tests.javascript import Program, Sdk
from tests.missing import missing
from tests.recognizers import QUICK, recording
from tests.stack import running_stack, tenants_of

LISTENERS = """
[[listeners]]
name = "public"
port = 0
certificate = "{directory}/ecdsa.pem"
certificate_key = "{directory}/ecdsa.key"

[[listeners]]
name = "rsa"
port = 0
certificate = "{directory}/rsa.pem"
certificate_key = "{directory}/rsa.key"

[[listeners]]
name = "private"
kind = "private"
port = 0
certificate = "{directory}/ecdsa.pem"
certificate_key = "{directory}/ecdsa.key"
client_ca = "{directory}/ca.pem"

[[listeners]]
name = "behind a proxy"
port = 0
trusted_proxies = "127.0.0.1"
"""
QUICK_SPEECH = recording(0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give the authority that all clients here trust."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.pair("ecdsa")
    authority.pair("rsa", key_type=trustme.KeyType.RSA)
    authority.pair("client", "client")
    return authority


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[Stack]:
    """Give a stack with four listeners."""
    config = authority.directory / "volant.toml"
    config.write_text(LISTENERS.format(directory=authority.directory))
    of_none = {"port": "8080"}  # the default, since the tables say more
    with running_stack(QUICK | of_none | {"config": str(config)}, ca=authority.file) as stack:
        yield stack


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Give a recording that takes no time."""
    file = tmp_path / "speech.wav"
    file.write_bytes(QUICK_SPEECH)
    return file


async def status(stack: Stack, listener: str, apikey: str, trust: Any, **headers: str) -> int:
    """Ask a listener for the list of jobs."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session,
        session.get(
            f"{stack.urls[listener]}/v1/recognitions",
            headers={
                "Authorization": aiohttp.encode_basic_auth("apikey", apikey),
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        ) as response,
    ):
        return response.status


async def test_ibms_python_sdk_speaks_tls(secured: Stack, authority: Authority) -> None:
    """Told of the authority; without that it refuses us. The address it is given is of https."""
    apikey = secured.new_tenant()[1]
    service = sdk(secured.url, apikey)
    service.set_http_config({"verify": str(authority.file)})
    job = service.create_job(QUICK_SPEECH, content_type="audio/wav").get_result()
    assert job["url"] == f"{secured.url}/v1/recognitions/{job['id']}"
    assert (await result_of(service, job["id"]))["status"] == "completed"
    assert service.delete_job(job["id"]).get_headers()["Strict-Transport-Security"] == "max-age=31536000"
    iam = IAMAuthenticator(apikey, url=secured.url)
    iam.token_manager.http_config = {"verify": str(authority.file)}
    by_token = type(service)(authenticator=iam)
    by_token.set_service_url(secured.url)
    by_token.set_http_config({"verify": str(authority.file)})
    assert by_token.check_jobs().get_result() == {"recognitions": []}
    with pytest.raises(Exception, match=r"self-signed|CERTIFICATE_VERIFY_FAILED"):
        sdk(secured.url, apikey).check_jobs()


@pytest.mark.usefixtures("node")
async def test_ibms_node_sdk_speaks_tls(secured: Stack, authority: Authority, speech: Path) -> None:
    """Node itself is told of the authority."""
    apikey = secured.new_tenant()[1]
    with Program("drive.mjs", environment={"NODE_EXTRA_CA_CERTS": str(authority.file)}) as drive:
        service = Sdk(drive, auth="basic", url=secured.url, apikey=apikey)
        job = service.result_of("createJob", audio={"stream": str(speech)}, contentType="audio/wav")
        assert (await service.final(job["id"]))["status"] == "completed"


def test_the_command_line_speaks_tls(
    secured: Stack, authority: Authority, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of an authority as OpenSSL is."""
    apikey = secured.new_tenant()[1]
    refused = run_volant("transcribe", str(speech), url=secured.url, apikey=apikey)
    assert (refused.returncode, "cannot be reached" in refused.stderr) == (1, True)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    said = run_volant("transcribe", str(speech), url=secured.url, apikey=apikey)
    assert said.returncode == 0, said.stderr


async def test_a_tenant_is_served_where_the_operator_says(secured: Stack, authority: Authority) -> None:
    """From the next request on; privately only to clients with a certificate."""
    tenant, apikey = secured.new_tenant()
    public, private = authority.trust(), authority.trust(shows="client")

    async def served() -> tuple[int, int]:
        return await status(secured, "public", apikey, public), await status(secured, "private", apikey, private)

    assert await served() == (200, 200)
    async with tenants_of(secured) as tenants:
        for endpoints, expected in (("private", (403, 200)), ("public", (200, 403)), ("both", (200, 200))):
            await tenants.update(TenantId(tenant), endpoints=endpoints)
            assert await served() == expected
        await tenants.update(TenantId(tenant), networks=("10.0.0.0/8",))
        assert await served() == (403, 403)
    assert await status(secured, "behind a proxy", apikey, True, X_Forwarded_For="10.1.2.3") == 200
    assert await status(secured, "behind a proxy", apikey, True, X_Forwarded_For="10.1.2.3, 192.0.2.1") == 403
    assert await status(secured, "public", apikey, public, X_Forwarded_For="10.1.2.3") == 403
    with pytest.raises(aiohttp.ClientError):
        await status(secured, "private", apikey, public)


def test_the_sdk_shows_why_it_is_not_served(secured: Stack, authority: Authority) -> None:
    """As it shows any refusal."""
    tenant, apikey = secured.new_tenant()
    secured.volant("tenant", "update", tenant, "--endpoints", "private")
    service = sdk(secured.url, apikey)
    service.set_http_config({"verify": str(authority.file)})
    error = refusal(service.check_jobs)
    assert (error.status_code, error.message) == (
        403,
        "This instance may not be used through this endpoint, or not from this address.",
    )


def test_an_api_does_not_start_in_the_open(tmp_path: Path) -> None:
    """Without a certificate, where others could listen in; it says what would do."""
    with pytest.raises(StackError, match="plain_http = true"):
        Stack(tmp_path / "stack", settings={"host": "0.0.0.0"}, workers=0, notifiers=0)  # noqa: S104 - it is refused


def scanner(name: str) -> str:
    """Return the path of a scanner. It may be `missing`."""
    found = shutil.which(name) or shutil.which(f"{name}.sh")
    if found is None:
        missing(f"{name} is not installed; on Debian: apt-get install sslscan testssl.sh")
    return found


@pytest.mark.parametrize("listener", ["public", "rsa"])
def test_sslscan_finds_nothing_old_and_nothing_weak(secured: Stack, listener: str) -> None:
    """TLS 1.2 and 1.3 and no other; every suite with ephemeral keys and AEAD; no renegotiation, no compression."""
    address = urlsplit(secured.urls[listener]).netloc
    scan = subprocess.run([scanner("sslscan"), "--xml=-", address], capture_output=True, check=True, timeout=100)
    [test] = ET.fromstring(scan.stdout).iter("ssltest")  # noqa: S314 - our own scanner's
    spoken = {(each.get("type"), each.get("version")) for each in test.iter("protocol") if each.get("enabled") == "1"}
    assert spoken == {("tls", "1.2"), ("tls", "1.3")}
    ciphers = [(str(each.get("sslversion")), str(each.get("cipher"))) for each in test.iter("cipher")]
    assert len(ciphers) >= 5
    for version, name in ciphers:
        assert version == "TLSv1.3" or name.startswith("ECDHE-")
        assert "GCM" in name or "POLY1305" in name
    assert {each.get("vulnerable") for each in test.iter("heartbleed")} == {"0"}
    assert {each.get("supported") for each in test.iter("renegotiation")} == {"0"}
    assert not any(each.get("supported") == "1" for each in test.iter("compression"))


@pytest.mark.parametrize("looks_at", [("-p", "-s"), ("-U",)], ids=["protocols and ciphers", "vulnerabilities"])
def test_testssl_finds_nothing(secured: Stack, tmp_path: Path, looks_at: tuple[str, ...]) -> None:
    """No finding is of any severity, but that what is new is offered and what is old is not."""
    found = tmp_path / "found.json"
    command = [scanner("testssl"), "--quiet", "--warnings", "off", "--ip", "one", *looks_at, "--jsonfile", str(found)]
    subprocess.run(
        [*command, urlsplit(secured.url).netloc], capture_output=True, check=True, timeout=380, stdin=subprocess.DEVNULL
    )
    findings = {each["id"]: each for each in json.loads(found.read_text()) if each["id"] != "engine_problem"}  # its own
    assert {name: each for name, each in findings.items() if each["severity"] not in ("OK", "INFO")} == {}
    if "-p" in looks_at:
        offered = {name for name, each in findings.items() if each["finding"].startswith("offered")}
        assert offered & {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3"} == {"TLS1_2", "TLS1_3"}
    else:
        assert {"heartbleed", "CCS", "ROBOT", "CRIME_TLS", "SWEET32", "LUCKY13"} <= findings.keys()
