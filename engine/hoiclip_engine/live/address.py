"""Address and token of the live page: HOST:PORT and access, checked before anything starts."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
from dataclasses import dataclass, field

from hoiclip.core.errors import UsageError

TOKEN_VARIABLE = "HOICLIP_LIVE_TOKEN"
MIN_TOKEN_CHARACTERS = 16
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAddress:
    """Address to listen at, and the token for access; without a token, only this machine may connect."""

    host: str = LOOPBACK
    port: int = 8080
    """0: any free port."""
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"expected a port from 0 to 65535, found {self.port}; choose another for --live")
        if self.token and (len(self.token) < MIN_TOKEN_CHARACTERS or not re.fullmatch(r"[\x21-\x7e]+", self.token)):
            raise UsageError(
                f"expected a token of {MIN_TOKEN_CHARACTERS} letters and digits or more; make one: openssl rand -hex 16"
            )
        if not (self.token or is_loopback(self.host)):
            raise UsageError(
                f"--live at {self.host} can be seen from other machines and needs a token: set {TOKEN_VARIABLE}, or "
                f"listen at {LOOPBACK}"
            )

    @staticmethod
    def parse(text: str, token: str | None = None) -> LiveAddress:
        """Parses HOST:PORT, :PORT, PORT or HOST; an IPv6 host is in brackets.

        Args:
            token: None or empty for that of HOICLIP_LIVE_TOKEN, if set.

        Raises:
            UsageError: invalid form, a weak token, or none where one is needed.
        """
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.\-]*))(?::(\d{1,5}))?", text)
        if found is None:
            raise UsageError("expected --live HOST:PORT, such as 127.0.0.1:8080; correct it")
        host, port = found[1] or found[2], found[3]
        if port is None and host.isdigit():
            host, port = "", host
        if len(port or "") > 5:
            raise UsageError("expected --live HOST:PORT, such as 127.0.0.1:8080; correct it")
        secret = token or os.environ.get(TOKEN_VARIABLE, "")
        return LiveAddress(host=host or LOOPBACK, port=int(port or 8080), token=secret)

    def accepts(self, secret: str) -> bool:
        """Whether a secret equals the token; compared in constant time."""
        return hmac.compare_digest(self.token.encode(), secret.encode("utf-8", "surrogateescape"))

    def url(self, port: int) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
