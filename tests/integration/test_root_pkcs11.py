"""A PKCS #11 token as a root: what only it has. The suite of all providers is in test_root_providers.py."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pkcs11.exceptions import GeneralError

from retention.cell_settings import RootSettings
from retention.errors import KeyUnavailable, SettingsError, Unavailable
from retention.roots import RootProvider, open_root, pkcs11
from retention.roots.module import Module
from retention.seal import Context, Key, Kind
from tests.integration.providers import PIN, SoftHsm, opened, secret, softhsm

CONTEXT = Context(kind=Kind.TENANT_KEY, tenant="t1", key_id="k1", key_version=1)


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """Give SoftHSM with one token."""
    return softhsm(tmp_path, monkeypatch)


@pytest.fixture
async def root(hsm: SoftHsm) -> AsyncIterator[RootProvider]:
    """Give a root in it."""
    async with opened(hsm.settings) as root:
        yield root


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Give the modules that are started from now on: a root would recover by that, at the cost of all others."""
    started: list[Path] = []
    restart = Module.restart

    def counted(self: Module) -> object:
        started.append(self._path)
        return restart(self)

    monkeypatch.setattr(Module, "restart", counted)
    return started


async def test_roots_of_one_token_do_not_disturb_each_other(
    hsm: SoftHsm, root: RootProvider, restarts: list[Path]
) -> None:
    """A login, a logout and a restart of the module concern all of a process: none costs the other root anything."""
    key = Key.random()
    wrapped = await root.wrap(key, CONTEXT)
    async with opened(hsm.another) as another:
        assert root.name != another.name
        await another.wrap(key, CONTEXT)
    assert await root.unwrap(wrapped, CONTEXT) == key
    assert len(restarts) == 1
    async with opened(hsm.another) as another:
        foreign = await another.wrap(key, CONTEXT)
        hsm.administer("session.get_key(label='another').destroy()")
        with pytest.raises(Unavailable, match="not in its token"):
            await another.unwrap(foreign, CONTEXT)
        assert await root.unwrap(wrapped, CONTEXT) == key


async def test_a_token_may_be_named_by_its_serial_number(
    hsm: SoftHsm, root: RootProvider, restarts: list[Path]
) -> None:
    """Even while it is in use under its label: it is the same login."""
    key = Key.random()
    wrapped = await root.wrap(key, CONTEXT)
    uri = f"pkcs11:serial={hsm.serial()};object=root?module-path={hsm.module}"
    async with opened(msgspec.structs.replace(hsm.settings, root=uri)) as again:
        assert await again.unwrap(wrapped, CONTEXT) == key
        assert len(restarts) == 1


async def test_a_wrong_pin_is_sent_once(hsm: SoftHsm) -> None:
    """So that no token locks itself; when the file is put right, the root works without a restart."""
    hsm.pin_file.write_text("24681012")
    async with opened(hsm.settings) as root:
        with pytest.raises(Unavailable, match="refuses the PIN"):
            await root.check()
        for _ in range(3):
            with pytest.raises(Unavailable, match="not sent again") as caught:
                await root.check()
            assert "24681012" not in f"{caught.value}"
        hsm.pin_file.write_text(PIN)
        await root.check()


@pytest.mark.parametrize("broken", ["missing", "readable by others"])
async def test_a_pin_file_that_breaks_later_is_an_outage(hsm: SoftHsm, broken: str) -> None:
    """It was right at the start; until it is again the token cannot be entered anew."""
    async with opened(hsm.settings) as root:
        if broken == "missing":
            hsm.pin_file.unlink()
        else:
            hsm.pin_file.chmod(0o644)
        with pytest.raises(Unavailable, match="PIN"):
            await root.check()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("Attribute.EXTRACTABLE: True", "may leave its token"),
        ("Attribute.SENSITIVE: False", "may leave its token"),
        ("Attribute.VALUE_LEN: 16", "256 bits"),
    ],
)
async def test_a_key_that_is_not_fit_is_not_used(hsm: SoftHsm, template: str, words: str) -> None:
    """A root key stays where it is, and has 256 bits."""
    async with opened(hsm.new("unfit", template)) as root:
        with pytest.raises(Unavailable, match=words):
            await root.check()


async def test_of_two_keys_with_one_label_none_is_taken(hsm: SoftHsm, root: RootProvider) -> None:
    """Keys are never tried in turn. An id tells them apart."""
    hsm.new("root", "Attribute.ID: b'2'")
    with pytest.raises(Unavailable, match="not one key"):
        await root.wrap(Key.random(), CONTEXT)
    uri = f"pkcs11:token=volant;object=root;id=2?module-path={hsm.module}"
    async with opened(msgspec.structs.replace(hsm.settings, root=uri)) as second:
        await second.check()


async def test_what_is_no_key_of_ours_is_refused(root: RootProvider) -> None:
    """Even if the token opens it: somebody else may use the same key for shorter things."""
    assert isinstance(root, pkcs11.TokenRoot)
    shorter = await root._with_key(lambda key: pkcs11._encrypt(key, bytes(16), CONTEXT.encode()))
    with pytest.raises(KeyUnavailable, match="did not wrap it"):
        await root.unwrap(shorter, CONTEXT)


@pytest.mark.parametrize("failing", ["_encrypt _decrypt", "_decrypt"])
async def test_a_token_that_breaks_in_the_act_is_an_outage(
    root: RootProvider, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """It says the same as of a damaged key; but it does not open what it sealed a moment ago, either."""
    wrapped = await root.wrap(Key.random(), CONTEXT)

    def fail(*_: object) -> bytes:
        raise GeneralError

    for name in failing.split():
        monkeypatch.setattr(pkcs11, name, fail)
    with pytest.raises(Unavailable, match="GeneralError"):
        await root.unwrap(wrapped, CONTEXT)


async def test_a_token_that_broke_once_loses_nothing(root: RootProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """What did not open is tried again before it is called another's."""
    key, failures, decrypt = Key.random(), ["once"], pkcs11._decrypt
    wrapped = await root.wrap(key, CONTEXT)

    def fail(*given: Any) -> bytes:
        if failures:
            failures.pop()
            raise GeneralError
        return decrypt(*given)

    monkeypatch.setattr(pkcs11, "_decrypt", fail)
    assert await root.unwrap(wrapped, CONTEXT) == key
    assert failures == []


async def test_a_silent_module_is_an_outage(hsm: SoftHsm, root: RootProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs is not waited for without end, nor by whoever stands behind it."""
    monkeypatch.setattr(pkcs11, "_WITHIN", 0.2)
    module, hanging = Module.of(hsm.module), threading.Event()
    module.thread.submit(hanging.wait)
    for _ in range(2):
        with pytest.raises(Unavailable, match="no answer in time"):
            await root.check()
    hanging.set()
    monkeypatch.setattr(pkcs11, "_WITHIN", 10.0)
    await root.check()
    module.release()


async def test_what_is_not_there_is_a_sentence_at_the_start(hsm: SoftHsm, tmp_path: Path) -> None:
    """The module, the PIN's file."""
    uri = "pkcs11:token=volant;object=root?module-path={}"
    wrong = {
        "no PKCS #11 module": RootSettings(root=uri.format("/none.so"), root_credentials_file=hsm.pin_file),
        "root_credentials_file": RootSettings(root=uri.format(hsm.module)),
        "cannot be read": RootSettings(root=uri.format(hsm.module), root_credentials_file=tmp_path / "none"),
    }
    for words, settings in wrong.items():
        with pytest.raises(SettingsError, match=words):
            await open_root(settings)


async def test_what_is_no_module_is_an_outage(tmp_path: Path, hsm: SoftHsm) -> None:
    """A file that cannot be loaded may be mended while the service waits."""
    broken = secret(tmp_path / "broken.so", "no library")
    uri = f"pkcs11:token=volant;object=root?module-path={broken}"
    async with opened(RootSettings(root=uri, root_credentials_file=hsm.pin_file)) as root:
        with pytest.raises(Unavailable, match="cannot be used"):
            await root.check()
