"""What a tenant is, and where it is served."""

import re
from datetime import datetime
from ipaddress import ip_network
from typing import Literal

import msgspec
from msgspec import Struct

from retention.addresses import Address, within
from retention.cell_settings import HOME
from retention.job import TenantId
from retention.limits import Limit, Limits
from retention.listening import Kind
from retention.notification import Hash

Plan = Literal["plus", "premium"]
"""Plus: a cell that tenants share, told apart by sealing context and key names. Premium: a cell of one's own."""


class Former(Struct, frozen=True, kw_only=True):
    """A cell that a tenant has left, or is to go to with a key that is imported there before; its plan, and when."""

    cell: str
    plan: Plan
    moved: datetime
    carried: bool = False
    """Whether the callback URLs that were registered there are known in the tenant's cell."""


_ID = re.compile("[0-9a-f]{16}")


class _Served(Struct, frozen=True, kw_only=True):
    endpoints: Kind | Literal["both"] = "both"
    """Of which kind the listeners are that serve it."""
    networks: tuple[str, ...] = ()
    """The networks, in CIDR form, from which it is served; none: from everywhere."""

    def is_served(self, kind: Kind, address: Address | None) -> bool:
        """Tell whether it is served by a listener of this kind, to a client of this address, None if it is unknown."""
        if self.endpoints not in (kind, "both"):
            return False
        return not self.networks or (address is not None and within(address, map(ip_network, self.networks)))


class Tenant(_Served, frozen=True, kw_only=True):
    """An instance with credentials. `name` is for people; the id is random and never reused."""

    id: TenantId
    name: str
    created: datetime
    plan: Plan = "plus"
    cell: str = HOME
    """Where its new jobs go."""
    former: tuple[Former, ...] = ()
    """Where its older jobs are, in the order in which it left. Never forgotten: an erasure must reach them all."""
    callback_signature: Hash | None = None
    """The hash of callback signatures; None: the service's setting."""
    learning_opt_out: bool = False
    """Whether nothing of this tenant's is ever written into the request log (spec 6.3)."""
    limits: Limits = Limits()
    """What was set for this tenant; the rest is in the settings."""

    @property
    def cells(self) -> tuple[str, ...]:
        """All cells in which there may be anything of it, its present one last."""
        return (*(former.cell for former in self.former), self.cell)

    def settled(self, *, cell: str, plan: Plan, now: datetime) -> "Tenant":
        """Return the tenant as it is once it has gone to a cell, or stays there, under a plan."""
        left = () if cell == self.cell else (Former(cell=self.cell, plan=self.plan, moved=now),)
        former = (*(former for former in self.former if former.cell != cell), *left)
        return msgspec.structs.replace(self, cell=cell, plan=plan, former=former)


class Credential(_Served, frozen=True, kw_only=True):
    """Who asks: the tenant, the public id of its API key, and the limits in force of both; where it is served."""

    tenant: TenantId
    key: str = ""
    limits: Limits = Limits()
    limits_of_key: Limits = Limits()

    def both(self, limit: Limit) -> tuple[float | None, float | None]:
        """Return a limit of the tenant and of the key."""
        return self.limits.of(limit), self.limits_of_key.of(limit)

    def least(self, limit: Limit, otherwise: int) -> int:
        """Return the lower of the two, or what holds otherwise if that is lower still."""
        return min([otherwise, *(int(most) for most in self.both(limit) if most is not None)])


def is_tenant_id(text: str) -> bool:
    """Tell whether this has the form of a tenant's id; the names of keys, such as `common`, have not."""
    return _ID.fullmatch(text) is not None
