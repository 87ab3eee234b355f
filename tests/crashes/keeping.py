"""What may happen to keys."""

import contextlib
from datetime import timedelta

from msgspec.structs import replace

from retention.errors import KeyRefused, NotFound, Superseded
from retention.keys import COMMON, KeyId, KeyState
from retention.keystore import TenantKeys
from retention.seal import Key
from tests.crashes.ledger import URL, Ledger
from tests.crashes.operations import Operation, operation, registered, submitted, taking_away
from tests.crashes.working import delete, work_through
from tests.integration.cell import Cell

KEYS: dict[str, Operation] = {}
GRACE = timedelta(days=7)
PASSED = timedelta(seconds=-1)
OWN = "own imported"


async def key_of(cell: Cell) -> KeyId:
    """Return the key that is the tenant's."""
    own = KeyId(cell.tenant)
    return own if await TenantKeys(cell.redis).get(own) else COMMON


async def is_as_told(cell: Cell, id_: KeyId, revision: int, *states: KeyState) -> None:
    """Compare what is stored with what was said to be done, unless more has happened since."""
    stored = await TenantKeys(cell.redis).get(id_)
    assert stored is None or stored.revision > revision or stored.state in states, "a key is not as was told"


@operation(KEYS, scenes="common")
async def create(cell: Cell, ledger: Ledger) -> None:
    """Give the tenant a key of its own."""
    with contextlib.suppress(KeyRefused, NotFound):
        key = await cell.custody.create(cell.tenant)
        ledger.eras[cell.tenant] = ledger.era(cell.tenant) + 1
        await is_as_told(cell, key.id, key.revision, KeyState.ACTIVE)


@operation(KEYS)
async def rotate(cell: Cell, ledger: Ledger) -> None:
    """Rotate the tenant's key, with new material if it was brought."""
    with contextlib.suppress(KeyRefused, NotFound):
        key = await cell.custody.get(await key_of(cell))
        if key.imported:
            material = Key.random()
            ledger.materials.append(material)
            await cell.custody.import_material(cell.tenant, material)
        else:
            await cell.custody.rotate(key.id)


@operation(KEYS, prepare=("rotate",))
async def rewrap(cell: Cell, ledger: Ledger) -> None:
    """Bring everything under the newest version."""
    del ledger
    with contextlib.suppress(NotFound):
        await cell.custody.rotation.rewrap(await key_of(cell))


@operation(KEYS)
async def rotate_and_rewrap(cell: Cell, ledger: Ledger) -> None:
    """Do both at once, as an operator does."""
    await rotate(cell, ledger)
    await rewrap(cell, ledger)


@operation(KEYS, scenes="common")
async def create_and_rewrap(cell: Cell, ledger: Ledger) -> None:
    """Bring everything under a key of the tenant's own."""
    await create(cell, ledger)
    await rewrap(cell, ledger)


@operation(KEYS)
async def rotate_common(cell: Cell, ledger: Ledger) -> None:
    """Rotate the common key, whichever the tenant's is."""
    del ledger
    with contextlib.suppress(KeyRefused):
        await cell.custody.rotate(COMMON)
        await cell.custody.rotation.rewrap(COMMON)


@operation(KEYS)
async def disable(cell: Cell, ledger: Ledger) -> None:
    del ledger
    with contextlib.suppress(KeyRefused, NotFound):
        key = await cell.custody.disable(await key_of(cell))
        await is_as_told(cell, key.id, key.revision, KeyState.SUSPENDED)


@operation(KEYS, scenes="common")
async def create_and_disable(cell: Cell, ledger: Ledger) -> None:
    """Give the tenant a key of its own, and disable it before all is under it."""
    await create(cell, ledger)
    await disable(cell, ledger)


@operation(KEYS)
async def park(cell: Cell, ledger: Ledger) -> None:
    """Disable the tenant's key, and let all that waits be parked."""
    await disable(cell, ledger)
    await work_through(cell, ledger)


@operation(KEYS, aims="held", prepare=("park",))
async def delete_parked(cell: Cell, ledger: Ledger) -> None:
    """Delete a job whose worker is gone and whose key is disabled."""
    ledger.labels["completed"] = ledger.labels["held"]
    await delete(cell, ledger)


@operation(KEYS, prepare=("park",))
async def enable(cell: Cell, ledger: Ledger) -> None:
    del ledger
    with contextlib.suppress(KeyRefused, NotFound):
        key = await cell.custody.enable(await key_of(cell))
        await is_as_told(cell, key.id, key.revision, KeyState.ACTIVE, KeyState.DEACTIVATED)


@operation(KEYS, scenes=OWN)
async def destroy(cell: Cell, ledger: Ledger) -> None:
    """Destroy the tenant's key so that it can be restored."""
    del ledger
    with contextlib.suppress(KeyRefused, NotFound):
        key = await cell.custody.destroy(KeyId(cell.tenant), grace=GRACE)
        await is_as_told(cell, key.id, key.revision, KeyState.DESTROYED)


@operation(KEYS, scenes="own", prepare=("destroy",))
async def restore(cell: Cell, ledger: Ledger) -> None:
    """Take that back."""
    del ledger
    with contextlib.suppress(KeyRefused, NotFound):
        await cell.custody.restore(KeyId(cell.tenant))


@operation(KEYS, scenes="imported", prepare=("destroy",))
async def refill(cell: Cell, ledger: Ledger) -> None:
    """Take that back with all the material that the owner has."""
    for material in tuple(ledger.materials):
        with contextlib.suppress(KeyRefused, NotFound):
            await cell.custody.import_material(cell.tenant, material)


@operation(KEYS, scenes=OWN)
async def destroy_now(cell: Cell, ledger: Ledger) -> None:
    """Destroy the tenant's key for good."""
    with taking_away(cell, ledger), contextlib.suppress(KeyRefused, NotFound):
        await cell.custody.destroy(KeyId(cell.tenant), grace=None)


@operation(KEYS, scenes=OWN)
async def let_purge(cell: Cell, ledger: Ledger) -> None:
    """Destroy the tenant's key, and let the grace period have ended."""
    ledger.purging.add(cell.tenant)
    with taking_away(cell, ledger), contextlib.suppress(KeyRefused, NotFound):
        await cell.custody.destroy(KeyId(cell.tenant), grace=PASSED)


@operation(KEYS, scenes=OWN, prepare=("let_purge",))
async def purge(cell: Cell, ledger: Ledger) -> None:
    """Do what is due: a destroyed key goes, and what it has wrapped."""
    await tend(cell, ledger)


@operation(KEYS, scenes=OWN, prepare=("let_purge",))
async def begin_anew(cell: Cell, ledger: Ledger) -> None:
    """Give the tenant a new key in the place of one that is gone for good, and use it."""
    await tend(cell, ledger)
    await create(cell, ledger)
    await submitted(cell, ledger)
    await registered(cell, ledger, URL)


@operation(KEYS, scenes=OWN)
async def create_again(cell: Cell, ledger: Ledger) -> None:
    """Give the tenant a new key in the place of one that may be gone for good by now."""
    await create(cell, ledger)


@operation(KEYS, scenes=OWN)
async def let_expire(cell: Cell, ledger: Ledger) -> None:
    """Let the tenant's key come to its end."""
    del ledger
    keys = TenantKeys(cell.redis)
    with contextlib.suppress(Superseded, KeyRefused):  # or gone by now
        if key := await keys.get(KeyId(cell.tenant)):
            await keys.write(replace(key, revision=key.revision + 1, expires=await keys.now()))


@operation(KEYS, scenes=OWN, prepare=("let_expire",))
async def expire(cell: Cell, ledger: Ledger) -> None:
    """Do what is due: a key ends."""
    await tend(cell, ledger)


@operation(KEYS, prepare=("rotate",))
async def tend(cell: Cell, ledger: Ledger) -> None:
    """Do what is due of all keys."""
    purging = cell.tenant in ledger.purging
    with taking_away(cell, ledger, with_key=True) if purging else contextlib.nullcontext():
        await cell.custody.tend("worker")
        await cell.custody.rotation.go_on("worker")
