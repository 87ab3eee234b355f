"""Where the API listens: what a listener is, and which settings of one contradict each other."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from retention.addresses import parse_cidrs
from retention.errors import SettingsError

Kind = Literal["public", "private"]


class Listener(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One socket that listens. It decides whether a request is public or private, and no header does."""

    name: Annotated[str, Meta(min_length=1, description="Its name, for the log.", examples=["private"])]
    kind: Annotated[
        Kind, Meta(description="public or private: which tenants it serves, they say.", examples=["private"])
    ] = "public"
    host: Annotated[str, Meta(description="The address on which it listens.", examples=["10.0.0.5"])] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="The port on which it listens; 0 takes a free one.", examples=[8443])
    ]
    certificate: Annotated[
        Path | None,
        Meta(
            description="Its TLS certificate and those between it and the authority, in PEM; read anew on change.",
            examples=["/etc/volant/tls/private.pem"],
        ),
    ] = None
    certificate_key: Annotated[
        Path | None,
        Meta(
            description="The key of the certificate, in PEM, in a file readable by its owner only.",
            examples=["/etc/volant/tls/private.key"],
        ),
    ] = None
    client_ca: Annotated[
        Path | None,
        Meta(
            description="Authorities, in PEM. With them, only clients with a certificate of one of them are served.",
            examples=["/etc/volant/tls/clients.pem"],
        ),
    ] = None
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Proxies, in CIDR form and separated by blanks, whose X-Forwarded-For and -Proto are believed.",
        ),
    ] = ""
    plain_http: Annotated[
        bool, Meta(description="Speak HTTP without TLS although others than this machine can reach the address.")
    ] = False

    def __post_init__(self) -> None:
        rules = [
            (
                (self.certificate is None) == (self.certificate_key is None),
                "certificate and certificate_key go together",
            ),
            (self.client_ca is None or self.certificate is not None, "client_ca needs a certificate"),
            (not self.plain_http or self.certificate is None, "it has a certificate, so plain_http must be false"),
            (
                self.certificate is not None or self.plain_http or is_loopback(self.host),
                f"{self.host or 'any address'} is not loopback: give it a certificate, or say plain_http = true",
            ),
        ]
        for holds, sentence in rules:
            if not holds:
                raise SettingsError(f"listener {self.name}: {sentence}")
        parse_cidrs(self.trusted_proxies, of=f"listener {self.name}: trusted_proxies")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on this host. A name other than localhost may be any."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
