"""Alerts to chats, mail, pagers and whatever else apprise knows: `pip install 'projection-guard[alerts]'`.

AlertPolicy(to=[AppriseReceiver(["slack://TokenA/TokenB/TokenC", "mailto://user:password@example.org"])])
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Final
from uuid import UUID

from ._addresses import public_only
from ._alerts import Alert
from .errors import AlertNotDelivered, ConfigurationError

try:
    from apprise import Apprise, AppriseAsset, NotifyBase, NotifyType
except ImportError as missing:
    raise ImportError("Alerts through apprise need it: pip install 'projection-guard[alerts]'") from missing

__all__ = ["AppriseReceiver"]

_REMEMBERED: Final = 1000
_instantiate: Callable[..., object] = getattr(Apprise, "instantiate")  # noqa: B009 - its types are not complete


class AppriseReceiver:
    """Sends each alert to one or more of apprise's services, each given as its URL.

    Redirects are not followed, whatever a URL says. Unless `allow_private`, a connection to any address that is not
    public is refused at the moment it is made. Where one service of several fails, the alert is given to that one
    again; after a restart, or in another process, to all of them. So give what must not be told twice a receiver of its
    own, with a `name`. Calling it raises `AlertNotDelivered`.
    """

    def __init__(
        self, urls: str | Sequence[str], *, allow_private: bool = False, name: str = "AppriseReceiver"
    ) -> None:
        self.name = name
        self._allow_private = allow_private
        asset = AppriseAsset(app_id="projection_guard", app_desc="projection_guard", async_mode=False)
        given = [urls] if isinstance(urls, str) else list(urls)
        if not given:
            raise ConfigurationError("AppriseReceiver takes one URL or more")
        self._services = [_service(number, url, asset) for number, url in enumerate(given, start=1)]
        self._done: OrderedDict[UUID, set[int]] = OrderedDict()
        self._keeping = threading.Lock()

    def __repr__(self) -> str:
        return f"AppriseReceiver({', '.join(_named(each) for each in self._services)})"

    def __call__(self, alert: Alert) -> None:
        """Send an alert. Raises `AlertNotDelivered`."""
        with self._keeping:
            done = self._done.setdefault(alert.id, set())
            while len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)
        failed: list[str] = []
        for number, service in enumerate(self._services):
            if number in done:
                continue
            try:
                self._send(service, alert)
            except Exception as error:
                words = f": {error}" if isinstance(error, AlertNotDelivered) else f" ({type(error).__name__})"
                failed.append(f"{_named(service)}{words}")
            else:
                done.add(number)
        if failed:
            raise AlertNotDelivered("; ".join(failed))

    def _send(self, service: NotifyBase, alert: Alert) -> None:
        with nullcontext() if self._allow_private else public_only():
            is_sent = service.notify(title=alert.title, body=alert.text, notify_type=_type_of(alert))
        if not is_sent:
            raise AlertNotDelivered("it did not take it; apprise's own log says more")


def _service(number: int, url: str, asset: AppriseAsset) -> NotifyBase:
    """Make a service. Raises `ConfigurationError`, which does not repeat the URL: it holds tokens."""
    made = _instantiate(url, asset=asset, suppress_exceptions=True)
    if not isinstance(made, NotifyBase):
        scheme = url.partition("://")[0][:32] if "://" in url else "none"
        raise ConfigurationError(
            f"AppriseReceiver: URL number {number} (scheme {scheme!r}) is none that apprise knows, or is not complete"
        )
    made.redirects = False
    return made


def _named(service: NotifyBase) -> str:
    return str(service.service_name)


def _type_of(alert: Alert) -> NotifyType:
    if alert.state == "recovered":
        return NotifyType.SUCCESS
    return {"info": NotifyType.INFO, "warning": NotifyType.WARNING, "critical": NotifyType.FAILURE}[alert.severity]
