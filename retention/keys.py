"""What a tenant key is: its versions, its states, and the moves between them.

States and their numbers are those of IBM Key Protect. A key wraps data keys with its newest version, and unwraps with
whichever one a wrapped key names:

| state       | wraps | unwraps | comes from                                  |
|-------------|-------|---------|---------------------------------------------|
| active      | yes   | yes     | create, import, enable, restore             |
| suspended   | no    | no      | disable                                     |
| deactivated | no    | yes     | its expiration date                         |
| destroyed   | no    | no      | destroy; until `purge_at` it can be restored |

A move is a pure function, and raises KeyRefused, with a sentence, where it is not allowed.
"""

import enum
from datetime import datetime
from typing import NewType

from msgspec import Struct
from msgspec.structs import replace

from retention.errors import KeyDisabled, KeyRefused, KeyUnavailable

KeyId = NewType("KeyId", str)
"""Names a tenant key: COMMON, or the id of the tenant whose own key it is."""

COMMON = KeyId("common")
"""The key of every tenant that has none of its own."""


class KeyState(enum.IntEnum):
    """The states of IBM Key Protect (NIST SP 800-57 Part 1 §7). Scripts and stored records depend on the numbers."""

    ACTIVE = 1
    SUSPENDED = 2
    DEACTIVATED = 3
    DESTROYED = 5


class Version(Struct, frozen=True, kw_only=True):
    """One version: its bytes wrapped by a root, or none when they were taken away."""

    number: int
    root: str
    """The root provider that wrapped it."""
    wrapped: bytes
    imported: bool
    """Whether its owner brought it."""
    check: str
    """The key check value: a keyed digest that tells whether material offered again is the same."""
    created: datetime


class TenantKey(Struct, frozen=True, kw_only=True):
    """A tenant key, as it is stored. `revision` counts its changes; the numbers of versions are never used twice."""

    id: KeyId
    revision: int
    state: KeyState
    created: datetime
    minimum: int
    """The least version under which a data key may still be wrapped; scripts look at it."""
    versions: tuple[Version, ...]
    """Those still needed, oldest first. All but the last only until no data key is wrapped under them any more."""
    expires: datetime | None = None
    """The expiration date, at which it is deactivated."""
    purge_at: datetime | None = None
    """Of a destroyed key: until then it can be restored. None: it is gone for good."""
    before: tuple[KeyState, ...] = ()
    """The states that it was suspended and destroyed from, to which it returns, the last one first."""
    settled: bool = True
    """Whether every data key that is to be under its newest version is."""

    @property
    def newest(self) -> Version:
        """The version that wraps."""
        return self.versions[-1]

    @property
    def imported(self) -> bool:
        """Whether its newest version was brought by its owner."""
        return bool(self.versions) and self.newest.imported

    @property
    def purged(self) -> bool:
        """Whether it was destroyed, and cannot be restored."""
        return self.state is KeyState.DESTROYED and self.purge_at is None

    def is_past_its_date(self, now: datetime) -> bool:
        """Tell whether it wraps no more, whether it was deactivated yet or not."""
        return self.expires is not None and self.expires <= now

    def is_past_its_grace(self, now: datetime) -> bool:
        """Tell whether a destroyed key cannot be restored any more, whether it was purged yet or not."""
        return self.purge_at is not None and self.purge_at <= now

    def wrapping(self, now: datetime) -> Version:
        """Return the version to wrap under. Raises KeyDisabled. `wrap.lua` has the same rule."""
        if self.state is not KeyState.ACTIVE or self.is_past_its_date(now):
            raise KeyDisabled(self.id)
        return self.newest

    def reading(self) -> None:
        """Return when it unwraps. Raises KeyDisabled while it does not, KeyUnavailable when it never will again."""
        if self.purged:
            raise KeyUnavailable(self.id)
        if self.state not in (KeyState.ACTIVE, KeyState.DEACTIVATED):
            raise KeyDisabled(self.id)

    def unwrapping(self, number: int) -> Version:
        """Return the version that unwraps. Raises KeyDisabled while none may, KeyUnavailable when it is no more."""
        self.reading()
        for version in self.versions:
            if version.number == number and version.wrapped:
                return version
        raise KeyUnavailable(self.id)


def created(
    id_: KeyId, version: Version, *, now: datetime, expires: datetime | None, gone: TenantKey | None
) -> TenantKey:
    """Return a new key, with its first version, or in the place of one that was purged. Raises KeyRefused."""
    if gone is not None and not gone.purged:
        if gone.state is KeyState.DESTROYED:
            raise KeyRefused("the key is destroyed and may be restored; destroy it at once before another is made")
        raise KeyRefused("there is such a key already: rotate it")
    return TenantKey(
        id=id_,
        revision=gone.revision + 1 if gone else 1,
        state=KeyState.ACTIVE,
        created=now,
        minimum=version.number,
        versions=(version,),
        expires=expires,
        settled=id_ == COMMON,  # what its tenant has so far is under the common key
    )


def next_number(key: TenantKey | None) -> int:
    """Return the number of the next version."""
    return max([key.minimum, *(version.number for version in key.versions)]) + 1 if key else 1


def rotated(key: TenantKey, version: Version) -> TenantKey:
    """Return the key with a new version, under which alone is wrapped from now on. Raises KeyRefused."""
    if key.state is not KeyState.ACTIVE:
        raise KeyRefused(f"the key is {key.state.name.lower()}: only an active one gets a new version")
    if any(known.check == version.check for known in key.versions):
        raise KeyRefused("this is the material that the key has already")
    return _changed(key, versions=(*key.versions, version), minimum=version.number, settled=False)


def settled(key: TenantKey) -> TenantKey:
    """Return the key with its newest version alone: nothing is wrapped under another any more."""
    return _changed(key, versions=key.versions[-1:], settled=True)


def disabled(key: TenantKey) -> TenantKey:
    """Return the key suspended. Raises KeyRefused."""
    if key.state not in (KeyState.ACTIVE, KeyState.DEACTIVATED):
        raise KeyRefused(f"the key is {key.state.name.lower()} already")
    return _changed(key, state=KeyState.SUSPENDED, before=(key.state,))


def enabled(key: TenantKey) -> TenantKey:
    """Return a suspended key as it was before. Raises KeyRefused."""
    if key.state is not KeyState.SUSPENDED:
        raise KeyRefused(f"the key is {key.state.name.lower()}, and not suspended")
    return _returned(key)


def expired(key: TenantKey) -> TenantKey:
    """Return the key deactivated; a suspended one stays so until it is enabled."""
    if key.state is KeyState.SUSPENDED:
        return _changed(key, before=(KeyState.DEACTIVATED,), expires=None)
    return _changed(key, state=KeyState.DEACTIVATED, expires=None)


def check_may_be_destroyed(id_: KeyId) -> None:
    """Raise KeyRefused for the one key that is not."""
    if id_ == COMMON:
        raise KeyRefused(
            "the common key is not destroyed: the data of every tenant without a key of its own is under it"
        )


def destroyed(key: TenantKey, *, purge_at: datetime | None) -> TenantKey:
    """Return the key destroyed: at once and for good, or so that it can be restored until then. Raises KeyRefused.

    What its owner brought is taken away in either case: to restore it, the owner imports it again.
    """
    check_may_be_destroyed(key.id)
    if key.state is KeyState.DESTROYED:
        if purge_at is not None or key.purged:
            raise KeyRefused("the key is destroyed already")
        return _purged(key)
    if purge_at is None:
        return _purged(key)
    versions = tuple(replace(each, wrapped=b"") if each.imported else each for each in key.versions)
    return _changed(
        key, state=KeyState.DESTROYED, versions=versions, purge_at=purge_at, before=(*key.before, key.state)
    )


def restored(key: TenantKey, *, now: datetime) -> TenantKey:
    """Return a destroyed key as it was. Raises KeyRefused when it is not destroyed, lacks its material, or is gone."""
    if key.state is not KeyState.DESTROYED:
        raise KeyRefused("the key is not destroyed")
    if key.purged or key.is_past_its_grace(now):
        raise KeyRefused("the key is gone for good")
    if not all(version.wrapped for version in key.versions):
        raise KeyRefused("its owner brought this key: import the same material again")
    return _returned(key)


def refilled(key: TenantKey, material: Version, *, now: datetime) -> TenantKey:
    """Return a destroyed key with a version that its owner imported again. Raises KeyRefused when it was another."""
    if key.state is not KeyState.DESTROYED or key.purged:
        raise KeyRefused("the key lacks no material")
    if key.is_past_its_grace(now):
        raise KeyRefused("the key is gone for good")
    if all((known.number, known.check) != (material.number, material.check) for known in key.versions):
        raise KeyRefused("this is not the material that the key had")
    return _changed(
        key, versions=tuple(material if known.number == material.number else known for known in key.versions)
    )


def _purged(key: TenantKey) -> TenantKey:
    # The least number stays, so that no version is ever made again.
    return _changed(
        key, state=KeyState.DESTROYED, versions=(), before=(), purge_at=None, expires=None, minimum=next_number(key) - 1
    )


def _returned(key: TenantKey) -> TenantKey:
    return _changed(key, state=key.before[-1], before=key.before[:-1], purge_at=None)


def _changed(key: TenantKey, **changes: object) -> TenantKey:
    return replace(key, revision=key.revision + 1, **changes)
