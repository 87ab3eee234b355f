"""Every setting of Volant: its name, unit, default and meaning, and how they must agree.

One TOML file (named by `VOLANT_CONFIG`), overridden by `VOLANT_*` environment variables. Secrets
come from files only: a variable of the environment is inherited by every child process. Durations
are seconds, or ISO 8601 durations such as "P7D".
"""

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, field

from retention.addresses import parse_networks
from retention.cell_settings import HOME, CellSettings, check_apart, check_tables
from retention.errors import SettingsError
from retention.limits import NAMES, Limits
from retention.listening import Listener
from retention.notification import Hash

Duration = timedelta
T = TypeVar("T")

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_LARGEST_OBJECT = 48 << 30
"""Bytes of the largest recording that an object store takes: 10,000 parts of 5 MiB."""
_PORT_IMPLIED = re.compile(r"http://.*:80|https://.*:443")
_OF_A_LISTENER = ("host", "port", "certificate", "certificate_key", "plain_http", "trusted_proxies")


class Settings(CellSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of all processes; `volant settings` shows them with these texts."""

    host: Annotated[str, Meta(description="The address on which the API listens, unless there are listeners.")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int,
        Meta(ge=0, le=65535, description="The port on which it listens, unless there are listeners; 0: a free one."),
    ] = 8080
    certificate: Annotated[
        Path | None,
        Meta(description="Its TLS certificate, likewise: in PEM, with those in between; read anew on change."),
    ] = None
    certificate_key: Annotated[
        Path | None, Meta(description="The key of that certificate, likewise: a file readable by its owner only.")
    ] = None
    plain_http: Annotated[
        bool, Meta(description="HTTP without TLS on an address that others than this machine can reach, likewise.")
    ] = False
    trusted_proxies: Annotated[
        str,
        Meta(description="Networks of proxies whose X-Forwarded-For and -Proto are believed, likewise; in CIDR form."),
    ] = ""
    listeners: Annotated[
        tuple[Listener, ...],
        Meta(description="Where the API listens, if in more than one place, or privately. One table for each."),
    ] = ()
    public_url: Annotated[
        str, Meta(description="The base URL that public clients use, for `url` fields; empty: from the Host header.")
    ] = ""
    cors_origins: Annotated[
        str,
        Meta(
            description="Origins of web pages that may use the API: https://a.example, separated by blanks,"
            " or * for all; empty: none."
        ),
    ] = ""
    max_upload: Annotated[
        int, Meta(ge=100, le=1 << 40, description="The largest audio accepted, in bytes, after inflating.")
    ] = 1 << 30
    upload_within: Annotated[Duration, Meta(description="An upload that takes longer in all is refused with 408.")] = (
        timedelta(hours=6)
    )
    upload_stall: Annotated[
        Duration, Meta(description="An upload from which no byte arrives for so long is refused with 408.")
    ] = timedelta(seconds=30)
    token_life: Annotated[Duration, Meta(description="How long a bearer token is good; an hour at most.")] = timedelta(
        hours=1
    )
    results_ttl: Annotated[
        Duration, Meta(description="How long a result is kept after completion, unless the client asks otherwise.")
    ] = timedelta(days=7)
    max_results_ttl: Annotated[
        Duration, Meta(description="The longest that a client may ask for; longer wishes are cut, with a warning.")
    ] = timedelta(days=7)
    patience: Annotated[
        Duration, Meta(description="A job that is still unfinished so long after its acceptance fails.")
    ] = timedelta(days=7)
    lease: Annotated[
        Duration, Meta(description="How long a worker may be silent before its job is given to another.")
    ] = timedelta(seconds=10)
    stall: Annotated[
        Duration, Meta(description="A recognising or decoding child without progress for so long is killed.")
    ] = timedelta(seconds=60)
    drain: Annotated[
        Duration, Meta(description="On SIGTERM, what is under way may end for so long; the rest is handed back or cut.")
    ] = timedelta(seconds=10)
    rescue_after: Annotated[
        Duration, Meta(description="An unfinished job is looked at so long after its acceptance, and then as often.")
    ] = timedelta(seconds=30)
    sweep_every: Annotated[
        Duration, Meta(description="How often the caretaker looks for what is due and for audio without a job.")
    ] = timedelta(seconds=10)
    orphan_after: Annotated[
        Duration, Meta(description="Audio without an unfinished job is removed when it is so old.")
    ] = timedelta(seconds=30)
    rewrite_every: Annotated[
        Duration,
        Meta(description="After erasures, Redis's file, which still shows them, is rewritten, no more often than so."),
    ] = timedelta(minutes=10)
    callback_signature: Annotated[
        Hash, Meta(description="The hash of X-Callback-Signature: sha256, or sha1 for older receivers.")
    ] = "sha256"
    challenges_per_hour: Annotated[
        int, Meta(ge=1, description="Callback URLs that a tenant may have challenged within an hour.")
    ] = 20
    notifications_at_once: Annotated[int, Meta(ge=1, description="Notifications that one notifier sends at once.")] = (
        100
    )
    recognizer: Annotated[
        str, Meta(description="The engine: the name of a volant.recognizers entry point, or module:Class.")
    ] = "pocketsphinx"
    recognizer_model: Annotated[
        Path | None, Meta(description="The directory of the engine's model, for an engine that brings none.")
    ] = None
    plain_text: Annotated[
        bool, Meta(description="Lower case and no punctuation in transcripts, whatever the engine writes.")
    ] = False
    children: Annotated[
        int, Meta(ge=0, description="Recognising children of one worker process; 0: one for each processor.")
    ] = 0
    jobs_at_once: Annotated[
        int, Meta(ge=0, description="Jobs that one worker process holds at once; 0: one more than it has children.")
    ] = 0
    child_memory: Annotated[
        int, Meta(ge=256 << 20, description="Address space of one recognising or decoding child, in bytes.")
    ] = 2 << 30
    max_audio: Annotated[
        Duration, Meta(description="The longest recording, counted in decoded audio; a longer one fails.")
    ] = timedelta(hours=24)
    callback_networks: Annotated[
        str, Meta(description="Private networks, in CIDR form, that callbacks may reach; separated by blanks.")
    ] = ""
    callback_loopback: Annotated[bool, Meta(description="Let callbacks reach this machine. For development.")] = False
    key_grace: Annotated[
        Duration, Meta(description="A destroyed key can be restored for so long; then what it has wrapped is erased.")
    ] = timedelta(days=7)
    request_log: Annotated[
        bool,
        Meta(description="Keep audio and transcripts of requests that have not opted out, to improve the service."),
    ] = False
    request_log_retention: Annotated[Duration, Meta(description="How long the request log is kept.")] = timedelta(
        days=30
    )
    audit_retention: Annotated[Duration, Meta(description="How long a record of the audit log is kept.")] = timedelta(
        days=365
    )
    limit_submits: Annotated[
        float,
        Meta(ge=0, description="A tenant's submissions in a second, if nothing else is set for it; 0: no limit."),
    ] = 10
    limit_polls: Annotated[
        float, Meta(ge=0, description="Its other requests in a second; likewise, as of all further limits.")
    ] = 100
    limit_tokens: Annotated[float, Meta(ge=0, description="Tokens that it buys in a second.")] = 10
    limit_waiting: Annotated[int, Meta(ge=0, description="Its unfinished jobs at any time.")] = 100_000
    limit_bytes: Annotated[
        int,
        Meta(ge=0, description="Bytes of audio, before sealing, of these jobs. A larger upload is refused."),
    ] = 1 << 40
    limit_uploads: Annotated[int, Meta(ge=0, description="Its uploads under way at once.")] = 100
    limit_audio: Annotated[int, Meta(ge=0, description="Seconds of its audio that are decoded in a day (UTC).")] = 0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="The least level logged.")] = (
        "info"
    )

    cell: Annotated[
        str, Meta(description="The cell that this worker or notifier serves: home, or one of the cells below.")
    ] = HOME
    cells: Annotated[
        dict[str, CellSettings],
        Meta(
            description="Further cells. Each is a table that must name a redis_url, a root key and an audio of its own,"
            " and may set what else the settings above say of a cell.",
            examples=["acme"],
        ),
    ] = field(default_factory=dict)

    def limits(self) -> Limits:
        """Return the limits of a tenant for which nothing else is set."""
        return Limits(**{name: getattr(self, f"limit_{name}") for name in NAMES})

    def __post_init__(self) -> None:
        super().__post_init__()
        minute = timedelta(minutes=1)
        names = [listener.name for listener in self.listeners]
        defaults = {each.name: each.default for each in msgspec.structs.fields(type(self))}
        unheard = [name for name in _OF_A_LISTENER if self.listeners and getattr(self, name) != defaults[name]]
        rules = [
            (self.lease >= timedelta(seconds=3), "lease must be at least 3 seconds: it is renewed every third of it"),
            (
                minute <= self.token_life <= 60 * minute,
                "token_life must be at least a minute and at most an hour",
            ),
            (self.results_ttl >= minute, "results_ttl must be at least a minute"),
            (self.max_results_ttl >= self.results_ttl, "max_results_ttl must not be below results_ttl"),
            (self.patience > self.rescue_after, "patience must be longer than rescue_after"),
            (self.rescue_after >= timedelta(seconds=1), "rescue_after must be at least a second"),
            (timedelta(0) < self.sweep_every <= minute / 2, "sweep_every must be above 0 and at most 30 seconds"),
            (
                timedelta(seconds=20) <= self.orphan_after <= minute - self.sweep_every,
                "orphan_after must be at least 20 seconds, and with sweep_every at most 60",
            ),
            (self.stall >= timedelta(seconds=5), "stall must be at least 5 seconds"),
            (self.upload_stall >= timedelta(seconds=1), "upload_stall must be at least a second"),
            (self.upload_within >= self.upload_stall, "upload_within must not be below upload_stall"),
            (self.drain >= timedelta(0), "drain must not be negative"),
            (
                self.cors_origins == "*" or all(map(_is_origin, self.cors_origins.split())),
                "cors_origins must be * or origins as browsers send them: lower case, no path, no port that is implied",
            ),
            (
                timedelta(seconds=1) <= self.rewrite_every <= timedelta(days=1),
                "rewrite_every must be at least a second and at most a day",
            ),
            (
                self.max_upload <= _LARGEST_OBJECT
                or all(cell.is_audio_in_directory for cell in (self, *self.cells.values())),
                "max_upload must be at most 48 GiB where audio is in an object store",
            ),
            (self.max_audio >= minute, "max_audio must be at least a minute"),
            (self.key_grace >= minute, "key_grace must be at least a minute"),
            (self.request_log_retention >= minute, "request_log_retention must be at least a minute"),
            (self.audit_retention >= timedelta(days=1), "audit_retention must be at least a day"),
            (len(set(names)) == len(names), "listeners: each needs a name of its own"),
            (not unheard, f"{', '.join(unheard)}: beside listeners, what each listens on stands in its own table"),
            (HOME not in self.cells, f"cells.{HOME}: the settings outside of the tables are those of this cell"),
            (self.cell == HOME or self.cell in self.cells, f"cell: there is no cell {self.cell} among the cells"),
        ]
        for holds, sentence in rules:
            if not holds:
                raise SettingsError(sentence)
        parse_networks(self.callback_networks)
        self.listening()
        check_apart({HOME: self, **self.cells})

    def listening(self) -> tuple[Listener, ...]:
        """Return all listeners: those of the tables, else the one public that the other settings make."""
        return self.listeners or (Listener(name="public", **{name: getattr(self, name) for name in _OF_A_LISTENER}),)

    def of_cell(self, name: str) -> CellSettings:
        """Return the settings of a cell. Raises SettingsError for one that is not among them."""
        if name != HOME and name not in self.cells:
            raise SettingsError(f"there is no cell {name} in the settings")
        return self if name == HOME else self.cells[name]


def _is_origin(text: str) -> bool:
    """Tell whether a browser could send this as an origin (RFC 6454 §6.2); anything else would never match one."""
    return _ORIGIN.fullmatch(text) is not None and not _PORT_IMPLIED.fullmatch(text)


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings of this process.

    Raises SettingsError, with a sentence that names the setting, for anything unknown, malformed or
    contradictory.
    """
    values: dict[str, object] = {}
    if path := environ.get("VOLANT_CONFIG"):
        try:
            values = tomllib.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise SettingsError(f"VOLANT_CONFIG: {path} cannot be read as TOML: {error}") from error
    for name in Settings.__struct_fields__:
        if (text := environ.get(f"VOLANT_{name.upper()}")) is not None:
            values[name] = text
    check_tables(values.get("cells"))
    if isinstance(cells := values.get("cells"), dict):
        values["cells"] = {name: _converted(table, CellSettings, f"cells.{name}: ") for name, table in cells.items()}
    return _converted(values, Settings)


def _converted(values: object, kind: type[T], where: str = "") -> T:
    try:
        return msgspec.convert(values, kind, strict=False, dec_hook=_to_path)
    except SettingsError as error:
        raise SettingsError(f"{where}{error}") from None
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where or 'settings: '}{error}") from error


def _to_path(kind: type, value: object) -> object:
    """Make the one type of setting that msgspec does not know."""
    if kind is not Path or not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Path(value)
