"""`volant audit`: read, verified, exported, and begun anew."""

import asyncio
import json
import re
from pathlib import Path

import pytest
import redis as blocking
from redis.asyncio import Redis

from deploy.processes import RedisServer
from retention import keyspace
from retention.audit import Audit
from retention.chain import Chain
from retention.keyring import Keyring
from retention.roots.file import FileRoot
from tests.commands import Run
from tests.integration.audited import Stored, client_of, verified
from tests.integration.cell import YEAR


@pytest.fixture
def client(redis_server: RedisServer) -> blocking.Redis:
    """Give a client that waits for its replies."""
    return client_of(redis_server.url)


def test_commands_are_listed_with_their_user(run: Run) -> None:
    """Numbers, times, events, outcomes, and in whose name; a tenant's alone, or the last ones alone."""
    tenant = run("tenant", "create", "Whispered Ltd").stdout.strip()
    run("tenant", "create", "Other")
    key = run("apikey", "create", tenant).stdout.strip()
    listed = run("audit", "list").stdout
    lines = listed.splitlines()
    assert len(lines) == 6
    assert re.fullmatch(
        r"1  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  volant\.tenant\.create  pending"
        rf"  actor=operator:\S+  tenant={tenant}  transaction=[0-9a-f]{{32}}",
        lines[0],
    )
    assert f"target={key.split('_')[1]}" in lines[5]
    assert not any(hidden in listed for hidden in ("Whispered", "Other", key))
    assert run("audit", "list", tenant).stdout.splitlines() == [*lines[:2], *lines[4:]]
    assert run("audit", "list", "--last", "1").stdout.splitlines() == lines[5:]


def test_an_export_has_a_line_for_each_record(run: Run, tmp_path: Path) -> None:
    """JSON, with number and hash; fields that say nothing are left out."""
    run("tenant", "create", "x")
    exported = run("audit", "export", "--checkpoint", str(tmp_path / "checkpoint"))
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [line["seq"] for line in lines] == [1, 2]
    assert lines[0].keys() == {"seq", "time", "event", "outcome", "actor", "transaction", "tenant", "hash"}
    assert json.loads((tmp_path / "checkpoint").read_text()) == {"seq": 2, "hash": lines[1]["hash"]}


def test_a_log_that_goes_on_from_a_checkpoint_is_verified(run: Run, client: blocking.Redis, tmp_path: Path) -> None:
    """And one that was put back as a whole, or begun anew, is not, although it is whole."""
    checkpoints = [str(tmp_path / name) for name in ("one", "two", "empty")]
    run("audit", "export", "--checkpoint", checkpoints[2])
    assert run("audit", "verify").stdout == "whole, and empty\n"
    run("tenant", "create", "x")
    run("audit", "export", "--checkpoint", checkpoints[0])
    earlier = Stored.of(client)
    assert run("audit", "verify").stdout == "whole, from record 1 to 2\n"
    run("tenant", "create", "y")
    run("audit", "export", "--checkpoint", checkpoints[1])
    for checkpoint in checkpoints:
        assert run("audit", "verify", "--checkpoint", checkpoint).stdout == "whole, from record 1 to 4\n"

    earlier.put(client)
    assert run("audit", "verify").stdout == "whole, from record 1 to 2\n"
    assert run("audit", "verify", "--checkpoint", checkpoints[0]).exit_code == 0
    run("tenant", "create", "z")
    refused = run("audit", "verify", "--checkpoint", checkpoints[1])
    assert (refused.exit_code, refused.stdout, refused.stderr) == (
        1,
        "",
        "Error: the log does not go on from the checkpoint: its record 4 is another one or missing\n",
    )


def test_a_checkpoint_whose_record_was_let_go_is_a_sentence(
    run: Run, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Of the last one that was let go it still says that the log goes on; of one before it cannot."""
    key = tmp_path / "root.key"
    for name in ("one", "two"):
        run("tenant", "create", name)
        run("audit", "export", "--checkpoint", str(tmp_path / name))
    run("tenant", "create", "three")

    async def let_go() -> None:
        async with Redis.from_url(redis_server.url) as redis:
            keyring = await Keyring.open(redis, FileRoot.open(key, create=False))
            chain, log = Chain(keyring.audit), Audit(redis, keyring.audit, retention=YEAR)
            fourth = (await verified(log))[3].link
            await redis.hset(keyspace.AUDIT_ENDS, "floor", chain.attest("floor", fourth))
            await redis.xtrim(keyspace.AUDIT, minid="5-0", approximate=False)

    asyncio.run(let_go())
    assert run("audit", "verify", "--checkpoint", str(tmp_path / "two")).stdout == "whole, from record 5 to 6\n"
    refused = run("audit", "verify", "--checkpoint", str(tmp_path / "one"))
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: record 2 of the checkpoint has gone: its time was over, or the log was begun anew\n",
    )


def test_a_checkpoint_that_is_none_is_a_sentence(run: Run, tmp_path: Path) -> None:
    """Whatever the file holds."""
    for text in ("", "{}", '{"seq":1,"hash":"zz"}', '{"seq":1,"hash":"00","x":1}', "\udcff"):
        (tmp_path / "c").write_bytes(text.encode(errors="surrogateescape"))
        refused = run("audit", "verify", "--checkpoint", str(tmp_path / "c"))
        assert (refused.exit_code, refused.stderr) == (1, f"Error: {tmp_path / 'c'} is not a checkpoint\n")


def test_a_log_that_was_tampered_with_is_told_and_begun_anew(run: Run, client: blocking.Redis, tmp_path: Path) -> None:
    """What comes before the break is shown; every command says where it is; after a restart there is another log."""
    checkpoint = str(tmp_path / "checkpoint")
    run("tenant", "create", "x")
    run("audit", "export", "--checkpoint", checkpoint)
    run("tenant", "create", "y")
    client.xdel(keyspace.AUDIT, "3-0")
    said = "Error: record 3 of the audit log is missing, or another one is in its place\n"
    for command, shown in (("list", 2), ("export", 2), ("verify", 0)):
        refused = run("audit", command)
        assert (refused.exit_code, refused.stderr, len(refused.stdout.splitlines())) == (1, said, shown)

    client.hdel(keyspace.AUDIT_ENDS, "head")
    refused = run("tenant", "create", "z")
    said = "Error: the head of the audit log is missing, or was not written by this service\n"
    assert (refused.exit_code, refused.stdout, refused.stderr) == (1, "", said)
    assert run("tenant", "list").stdout.count("\n") == 2
    assert run("audit", "restart", "--yes").stdout == "restarted\n"
    assert run("tenant", "create", "z").exit_code == 0
    whole = re.fullmatch(r"whole, from record (\d+) to (\d+)\n", run("audit", "verify").stdout)
    assert whole
    assert int(whole[2]) - int(whole[1]) == 2
    assert "volant.audit-log.restart  success  actor=operator:" in run("audit", "list").stdout.splitlines()[0]
    refused = run("audit", "verify", "--checkpoint", checkpoint)
    said = "Error: record 2 of the checkpoint has gone: its time was over, or the log was begun anew\n"
    assert (refused.exit_code, refused.stdout, refused.stderr) == (1, "", said)


def test_a_restart_asks_first(run: Run) -> None:
    """Nothing is removed without a yes."""
    run("tenant", "create", "x")
    assert run("audit", "restart").exit_code == 1
    assert run("audit", "verify").stdout == "whole, from record 1 to 2\n"


def test_the_request_logs_content_is_not_taken_out_unseen(run: Run) -> None:
    """Emptying it is told; what is not there is taken out by nobody."""
    tenant = run("tenant", "create", "x").stdout.strip()
    run("request-log", "purge", "--yes", tenant)
    run("request-log", "purge", "--yes")
    listed = run("audit", "list").stdout.splitlines()[2:]
    assert [line.split("  ")[2:4] for line in listed] == [
        ["volant.request-log.delete", outcome] for outcome in ("pending", "success") * 2
    ]
    assert [f"tenant={tenant}" in line for line in listed] == [True, True, False, False]
