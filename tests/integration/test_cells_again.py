"""A cell that a deleted tenant had: it is given to nobody while anything of that tenant is left in it."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from retention import keyspace
from retention.errors import CellRefused, NotFound, Unavailable
from retention.job import TenantId
from tests.integration.installation import Installation, crashes, finish


async def keys_of(installation: Installation, tenant: TenantId) -> list[bytes]:
    """Return what in the Redis of the cell acme is called by a tenant's id."""
    redis = installation.acme_redis
    fields = [*await redis.hkeys("volant:tenants"), *await redis.hkeys("volant:tenantkeys")]
    return [name async for name in redis.scan_iter(f"*{tenant}*")] + [
        name for name in fields if name == tenant.encode()
    ]


def audio_of(installation: Installation, tenant: TenantId) -> list[Path]:
    return list(Path(installation.settings.cells["acme"].audio).rglob(f"{tenant}/*"))


async def with_data(installation: Installation) -> TenantId:
    """Return a tenant of Premium with the cell acme to itself, a job that waits there and one that has ended."""
    tenant = (await installation.retention.tenancy.create("first", plan="premium", cell="acme")).id
    await finish(installation.acme, await installation.submit(tenant))
    await installation.submit(tenant)
    return tenant


async def create(installation: Installation, **options: Any) -> TenantId:
    return (await installation.retention.tenancy.create("second", cell="acme", **options)).id


async def create_premium(installation: Installation) -> TenantId:
    return await create(installation, plan="premium")


async def move(installation: Installation) -> TenantId:
    await installation.move("acme", plan="premium")
    return installation.tenant


async def prepare(installation: Installation) -> TenantId:
    await installation.retention.tenancy.prepare(installation.tenant, "acme")
    return installation.tenant


@pytest.mark.parametrize("come", [create, create_premium, move, prepare])
async def test_a_cell_with_data_of_one_who_was_deleted_is_refused(
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    come: Callable[[Installation], Awaitable[TenantId]],
) -> None:
    """It was away as the tenant was deleted: it is not given to another until that is given again, as is said."""
    tenancy, gone = installation.retention.tenancy, await with_data(installation)

    async def away(_: TenantId) -> int:
        raise Unavailable("cell acme")

    with monkeypatch.context() as patched:
        patched.setattr(installation.acme.jobs, "delete_tenant", away)
        with pytest.raises(Unavailable):
            await tenancy.delete(gone)
    with pytest.raises(CellRefused, match=f"`volant tenant delete {gone}`"):
        await come(installation)
    assert await installation.acme_redis.hkeys("volant:tenants") == [gone.encode()]
    assert await tenancy.delete(gone) == 2
    assert (await keys_of(installation, gone), audio_of(installation, gone)) == ([], [])
    assert "acme" in (await installation.retention.tenants.get(await come(installation))).cells


async def test_whoever_has_a_cell_after_a_deletion_that_broke_off_finds_nothing_in_it(
    installation: Installation,
) -> None:
    """Wherever that was: also when the cell has forgotten the tenant already, and not what it had."""
    tenancy, gone = installation.retention.tenancy, await with_data(installation)
    refused = 0

    async def look() -> None:
        nonlocal refused
        try:
            second = await create_premium(installation)
        except CellRefused:
            refused += 1
            return
        assert await keys_of(installation, gone) == []  # its audio opens no more; what is left of that is swept
        await tenancy.delete(second)

    async def delete() -> None:
        try:
            await tenancy.delete(gone)
        except NotFound:
            assert (await keys_of(installation, gone), audio_of(installation, gone)) == ([], [])

    assert await crashes(delete, look) > refused > 5
    assert (await keys_of(installation, gone), audio_of(installation, gone)) == ([], [])


async def test_a_deletion_says_that_it_has_taken_what_nobody_knew_of(installation: Installation) -> None:
    """A callback URL of a tenant that neither home nor the cell knows: to give the deletion is what was advised."""
    tenant = installation.tenant
    await installation.move("acme")
    await installation.register()
    for redis in installation.home_redis, installation.acme_redis:
        await redis.hdel(keyspace.TENANTS, tenant)
    with pytest.raises(CellRefused, match=f"`volant tenant delete {tenant}`"):
        await create(installation)
    assert await installation.retention.tenancy.delete(tenant) == 0
    assert await keys_of(installation, tenant) == []
    assert await create(installation)
