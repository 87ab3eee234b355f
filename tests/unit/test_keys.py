"""The states of a tenant key, and the moves between them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from retention import keys
from retention.errors import KeyDisabled, KeyRefused, KeyUnavailable
from retention.keys import COMMON, KeyId, KeyState, TenantKey, Version

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=7)
OWN = KeyId("00112233aabbccdd")


def version(number: int, *, imported: bool = False) -> Version:
    return Version(number=number, root="file", wrapped=b"w", imported=imported, check=f"c{number}", created=NOW)


def new(*, id_: KeyId = OWN, imported: bool = False, gone: TenantKey | None = None) -> TenantKey:
    first = version(keys.next_number(gone), imported=imported)
    return keys.created(id_, first, now=NOW, expires=LATER, gone=gone)


def destroyed(key: TenantKey) -> TenantKey:
    return keys.destroyed(key, purge_at=LATER)


def restored(key: TenantKey) -> TenantKey:
    return keys.restored(key, now=NOW)


def purged(key: TenantKey) -> TenantKey:
    return keys.destroyed(key, purge_at=None)


STATES: dict[KeyState, Callable[[TenantKey], TenantKey]] = {
    KeyState.ACTIVE: lambda key: key,
    KeyState.SUSPENDED: keys.disabled,
    KeyState.DEACTIVATED: keys.expired,
    KeyState.DESTROYED: destroyed,
}


@pytest.mark.parametrize(
    ("state", "number", "wraps", "unwraps"),
    [
        (KeyState.ACTIVE, 1, True, True),
        (KeyState.SUSPENDED, 2, False, False),
        (KeyState.DEACTIVATED, 3, False, True),
        (KeyState.DESTROYED, 5, False, False),
    ],
    ids=str,
)
def test_what_a_state_allows(state: KeyState, number: int, *, wraps: bool, unwraps: bool) -> None:
    """As IBM Key Protect says, with its numbers."""
    key = STATES[state](new())
    assert key.state == state == number
    uses: list[tuple[bool, Callable[[], Version]]] = [
        (wraps, lambda: key.wrapping(NOW)),
        (unwraps, lambda: key.unwrapping(1)),
    ]
    for allowed, use in uses:
        if allowed:
            assert use() == version(1)
        else:
            with pytest.raises(KeyDisabled):
                use()


@pytest.mark.parametrize("state", STATES, ids=str)
def test_a_suspended_or_destroyed_key_returns_to_what_it_was(state: KeyState) -> None:
    """Whether it wrapped or not."""
    if state in (KeyState.ACTIVE, KeyState.DEACTIVATED):
        assert keys.enabled(keys.disabled(STATES[state](new()))).state is state
    if state is not KeyState.DESTROYED:
        assert restored(destroyed(STATES[state](new()))).state is state


def test_a_key_that_expires_while_suspended_is_deactivated_when_enabled() -> None:
    """And remains suspended until then."""
    key = keys.expired(keys.disabled(new()))
    assert key.state is KeyState.SUSPENDED
    assert keys.enabled(key).state is KeyState.DEACTIVATED


def test_what_a_date_or_a_grace_has_ended_is_over_before_that_is_written() -> None:
    """Nobody need have deactivated or purged it: from that moment on it neither wraps nor comes back."""
    key = new()
    assert key.wrapping(LATER - timedelta(milliseconds=1)) == version(1)
    with pytest.raises(KeyDisabled):
        key.wrapping(LATER)
    brought = destroyed(new(imported=True))
    assert keys.restored(destroyed(key), now=LATER - timedelta(milliseconds=1)).state is KeyState.ACTIVE
    with pytest.raises(KeyRefused, match="for good"):
        keys.restored(destroyed(key), now=LATER)
    with pytest.raises(KeyRefused, match="for good"):
        keys.refilled(brought, version(1, imported=True), now=LATER)


def test_a_new_version_wraps_and_old_ones_unwrap_until_they_are_needed_no_more() -> None:
    """The least version moves with it."""
    key = keys.rotated(new(), version(2))
    assert key.wrapping(NOW) == version(2)
    assert key.unwrapping(1) == version(1)
    assert (key.minimum, key.settled) == (2, False)
    key = keys.settled(key)
    assert key.settled
    with pytest.raises(KeyUnavailable):
        key.unwrapping(1)


def test_the_same_material_is_no_rotation() -> None:
    """It would look like one."""
    with pytest.raises(KeyRefused):
        keys.rotated(new(), Version(number=2, root="file", wrapped=b"w", imported=True, check="c1", created=NOW))


def test_a_purged_key_unwraps_nothing_and_cannot_be_restored() -> None:
    """Whether at once or after its grace."""
    for key in (purged(new()), purged(destroyed(new())), purged(keys.disabled(new()))):
        assert key.purged
        assert key.versions == ()
        with pytest.raises(KeyUnavailable):
            key.unwrapping(1)
        with pytest.raises(KeyDisabled):
            key.wrapping(NOW)
        with pytest.raises(KeyRefused):
            restored(key)


def test_no_version_is_made_twice() -> None:
    """Not even after a key was purged and made anew."""
    key = purged(keys.rotated(new(), version(2)))
    assert keys.next_number(key) == 3
    again = new(gone=key)
    assert again.newest.number == 3
    assert again.revision == key.revision + 1
    assert keys.next_number(purged(again)) == 4


def test_imported_material_is_taken_away_when_the_key_is_destroyed() -> None:
    """And restored by the same material alone."""
    key = destroyed(keys.rotated(new(), version(2, imported=True)))
    assert [each.wrapped for each in key.versions] == [b"w", b""]
    with pytest.raises(KeyRefused, match="import"):
        restored(key)
    for other in (version(3), Version(number=2, root="", wrapped=b"x", imported=True, check="c1", created=NOW)):
        with pytest.raises(KeyRefused):
            keys.refilled(key, other, now=NOW)
    assert restored(keys.refilled(key, version(2, imported=True), now=NOW)).state is KeyState.ACTIVE


def test_the_common_key_is_not_destroyed() -> None:
    """Many tenants' data is under it."""
    with pytest.raises(KeyRefused):
        destroyed(new(id_=COMMON))


REFUSED: dict[str, Callable[[], TenantKey]] = {
    "enable an active one": lambda: keys.enabled(new()),
    "disable a suspended one": lambda: keys.disabled(keys.disabled(new())),
    "disable a destroyed one": lambda: keys.disabled(destroyed(new())),
    "rotate a suspended one": lambda: keys.rotated(keys.disabled(new()), version(2)),
    "rotate a deactivated one": lambda: keys.rotated(keys.expired(new()), version(2)),
    "restore an active one": lambda: restored(new()),
    "destroy it twice": lambda: destroyed(destroyed(new())),
    "purge it twice": lambda: purged(purged(new())),
    "create a destroyed one": lambda: new(gone=destroyed(new())),
    "create an active one": lambda: new(gone=new()),
    "refill an active one": lambda: keys.refilled(new(), version(1), now=NOW),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
def test_a_move_that_is_not_allowed_is_refused(refused: Callable[[], TenantKey]) -> None:
    """With a sentence."""
    with pytest.raises(KeyRefused, match="key"):
        refused()


@given(st.lists(st.sampled_from(["rotate", "disable", "enable", "expire", "destroy", "purge", "restore", "settle"])))
def test_every_move_counts_and_the_least_version_never_falls(names: list[str]) -> None:
    """Whatever comes after whatever."""
    key = new()
    for name in names:
        moves: dict[str, Callable[[TenantKey], TenantKey]] = {
            "rotate": lambda key: keys.rotated(key, version(keys.next_number(key))),
            "disable": keys.disabled,
            "enable": keys.enabled,
            "expire": keys.expired,
            "destroy": destroyed,
            "purge": purged,
            "restore": restored,
            "settle": keys.settled,
        }
        try:
            moved = moves[name](key)
        except KeyRefused:
            continue
        assert moved.revision == key.revision + 1
        assert moved.minimum >= key.minimum
        if moved.state is KeyState.ACTIVE:
            assert moved.wrapping(NOW).number == moved.minimum
        key = moved
