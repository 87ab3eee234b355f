"""Redis's users: what each role is refused, and whether a process notices that it is not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import redis as blocking
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from structlog.testing import capture_logs

from deploy.acl import ROLES, make_users
from deploy.processes import RedisServer, temporary_directory
from retention import keyspace
from retention.audit import Audit
from retention.erasures import ErasureHorizon
from retention.job import RegistrationId, TenantId
from retention.keyring import Keyring
from retention.privileges import FORBIDDEN, Privileges, Role
from retention.registrations import Registration, Registrations
from retention.roots.file import FileRoot
from retention.seal import Key
from retention.tenants import Tenants
from tests.commands import volant
from tests.missing import lacking
from tests.stack import users_under_test


@pytest.fixture(scope="module")
def with_users() -> Iterator[tuple[RedisServer, Path]]:
    with temporary_directory() as directory:
        if (users := users_under_test(directory)) is None:
            lacking("selectors in its rules")
        server = RedisServer(directory / "redis", "--aclfile", str(users / "users.acl"))
        yield server, users
        server.stop()


@pytest.fixture
def guarded(with_users: tuple[RedisServer, Path]) -> tuple[RedisServer, Path]:
    """Give a Redis with users and nothing else, and the directory with their passwords."""
    with blocking.Redis.from_url(with_users[0].url) as client:
        client.flushall()
    return with_users


def as_role(guarded: tuple[RedisServer, Path], role: str) -> Redis:
    server, users = guarded
    return Redis.from_url(server.url, username=role, password=(users / f"{role}.password").read_text())


@pytest.mark.parametrize("role", FORBIDDEN)
async def test_what_a_role_must_not_do_is_refused(guarded: tuple[RedisServer, Path], role: Role) -> None:
    """By the rules that come with Volant; its process says so."""
    redis = as_role(guarded, role)
    privileges = Privileges(redis, role=role, named=True)
    with capture_logs() as logs:
        await privileges.check()
    assert privileges.least == "held"
    assert [line["log_level"] for line in logs] == ["info"]
    await redis.aclose()


@pytest.mark.parametrize(
    ("role", "number"), [(role, number) for role, forbidden in FORBIDDEN.items() for number in range(len(forbidden))]
)
async def test_each_right_too_much_is_noticed(guarded: tuple[RedisServer, Path], role: Role, number: int) -> None:
    """One by one: the right is named in the log, and nothing happens to what is there."""
    command = FORBIDDEN[role][number]
    server, _ = guarded
    with blocking.Redis.from_url(server.url) as admin:
        before = admin.acl_getuser(role)
        admin.set("volant:anything", 1)
        admin.execute_command("ACL", "SETUSER", role, f"+{command[0].lower()}", "~*")
        redis = as_role(guarded, role)
        privileges = Privileges(redis, role=role, named=True)
        with capture_logs() as logs:
            await privileges.check()
        await redis.aclose()
        admin.execute_command("ACL", "LOAD")
        assert before == admin.acl_getuser(role)
        assert admin.get("volant:anything") == b"1"
    assert privileges.least == "exceeded"
    assert logs[0]["log_level"] == "error"
    assert " ".join(command[:2]) in logs[0]["reason"]


async def test_without_a_user_of_its_own_nothing_is_asked(redis: Redis) -> None:
    """It says so."""
    privileges = Privileges(redis, role="api", named=False)
    with capture_logs() as logs:
        await privileges.check()
    assert privileges.least == "no user"
    assert [line["log_level"] for line in logs] == ["warning"]


def test_the_users_file_is_an_operators(tmp_path: Path) -> None:
    """As the file is made for an operator; passwords differ, stay when it is made again, and are their owner's."""
    users = make_users(tmp_path)
    passwords = {role: (tmp_path / f"{role}.password").read_text() for role in ROLES}
    make_users(tmp_path)
    assert passwords == {role: (tmp_path / f"{role}.password").read_text() for role in ROLES}
    assert len(set(passwords.values())) == len(ROLES)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    rules = users.read_text()
    assert "user default reset off" in rules
    assert not any(password in rules for password in passwords.values())


def test_redis_refuses_whoever_is_no_role(tmp_path: Path) -> None:
    """With the very file that an operator has: no name, no password or another's, or the name that all have."""
    if (directory := users_under_test(tmp_path)) is None:
        lacking("selectors in its rules")
    server = RedisServer(tmp_path / "redis", "--aclfile", str(directory / "users.acl"))
    try:
        with blocking.Redis.from_url(server.url) as admin:
            make_users(directory)  # its passwords stay, and the default user goes, whom the tests need
            admin.acl_load()
        passwords = {role: (directory / f"{role}.password").read_text() for role in ROLES}
        for role, password in passwords.items():
            with blocking.Redis.from_url(server.url, username=role, password=password) as known:
                assert known.ping()
        wrong = {"username": "api", "password": passwords["worker"]}, {"username": "api", "password": ""}
        for shown in ({}, {"password": passwords["api"]}, {"username": "default", "password": ""}, *wrong):
            with (
                blocking.Redis.from_url(server.url, **shown) as stranger,
                pytest.raises(blocking.AuthenticationError),
            ):
                stranger.get("volant:tenants")
    finally:
        server.stop()


async def test_roles_may_do_what_cells_ask_of_them(guarded: tuple[RedisServer, Path]) -> None:
    """The front brings callback URLs into another cell, and takes them back; a command moves a tenant."""
    admin, api = as_role(guarded, "admin"), as_role(guarded, "api")
    keyring = await Keyring.open(admin, FileRoot(Key.random()))
    audit = Audit(admin, keyring.audit, retention=timedelta(days=1))
    await keyring.make_common()
    tenants = Tenants(admin, audit)
    now = datetime.now(UTC)
    tenant = (await tenants.create("one", now=now)).id
    assert (await tenants.update(tenant, cell="acme")).cell == "acme"
    front = Registrations(api, keyring, audit)
    known = Registration(id=RegistrationId("x/y"), url="https://a.example", secret=None, created=now, customers=())
    adopted = await front.adopt(tenant, known)
    await front.disown(tenant, known, adopted)
    await front.settle(tenant, known, await front.adopt(tenant, known))
    assert await front.find(tenant, known.url)
    await admin.aclose()
    await api.aclose()


async def test_a_worker_removes_an_import_token_that_ran_out_and_cannot_read_it(
    guarded: tuple[RedisServer, Path],
) -> None:
    """It has the file rewritten that still shows it."""
    worker, admin = as_role(guarded, "worker"), as_role(guarded, "admin")
    token = keyspace.import_token(TenantId("0" * 16))
    await admin.set(token, "kept", px=60_000)
    await admin.zadd(keyspace.EXPIRING, {token: 1})
    with pytest.raises(NoPermissionError):
        await worker.get(token)
    await ErasureHorizon(worker, rewrite_every=timedelta(0)).tend()
    assert not await admin.exists(token, keyspace.EXPIRING)
    status = await ErasureHorizon(admin, rewrite_every=timedelta(0)).status()
    assert status.oldest == datetime.fromtimestamp(0.001, UTC)
    await worker.aclose()
    await admin.aclose()


@pytest.mark.parametrize("role", ["api", "worker", "notifier"])
def test_whoever_empties_the_audit_log_with_a_roles_password_is_seen(
    guarded: tuple[RedisServer, Path], tmp_path: Path, role: Role
) -> None:
    """No rule forbids an argument of `XADD`. With the ends of the day it began it takes a checkpoint to see it."""
    server, users = guarded
    run = partial(
        volant,
        redis_url=server.url,
        redis_user="admin",
        redis_password_file=str(users / "admin.password"),
        root_key_file=str(tmp_path / "root.key"),
        create_root_key="true",
        audio=str(tmp_path / "audio"),
    )
    checkpoint = str(tmp_path / "checkpoint")
    password = (users / f"{role}.password").read_text()
    with blocking.Redis.from_url(server.url, username=role, password=password) as thief:
        assert run("audit", "verify").stdout == "whole, and empty\n"
        first = dict(zip(("floor", "head"), thief.hmget(keyspace.AUDIT_ENDS, ["floor", "head"]), strict=True))
        run("tenant", "create", "x")
        assert run("audit", "export", "--checkpoint", checkpoint).exit_code == 0
        thief.xadd(keyspace.AUDIT, {"x": "y"}, maxlen=0, approximate=False)
        refused = run("audit", "verify")
        said = "Error: the audit log ends with record 0, and should with record 2\n"
        assert (refused.exit_code, refused.stdout, refused.stderr) == (1, "", said)
        thief.hset(keyspace.AUDIT_ENDS, mapping=first)
    assert run("audit", "verify").stdout == "whole, and empty\n"
    refused = run("audit", "verify", "--checkpoint", checkpoint)
    said = "Error: the log does not go on from the checkpoint: its record 2 is another one or missing\n"
    assert (refused.exit_code, refused.stdout, refused.stderr) == (1, "", said)
    assert run("tenant", "create", "y").exit_code == 1
