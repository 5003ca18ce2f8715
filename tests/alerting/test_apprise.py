"""Alerts through apprise, to a real receiver: it obeys the same rules as our own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from projection_guard import AlertNotDelivered, ConfigurationError
from projection_guard._addresses import AddressRefused, public_only
from projection_guard.apprise import AppriseReceiver
from tests.alerting.listening import an_alert, listening
from tests.alerting.told import outage, policy_of, watched
from tests.bed import Bed


def test_alerts_of_a_guard_come_by_apprise(sqlite_bed: Bed) -> None:
    """With title, text and how urgent it is."""
    with listening() as requests:
        receiver = AppriseReceiver(requests.url.replace("http", "json"), allow_private=True)
        guard = watched(sqlite_bed, policy_of(receiver, exhausted=True))
        outage(sqlite_bed, guard)
        guard.work()
        assert guard.alerts()[0].undelivered == ()
    ((_, _, body),) = requests.seen
    sent = json.loads(body)
    assert (sent["title"], sent["type"]) == ("P: 1 failure to be decided by a person", "warning")
    assert "guard.resolve(failure_id, 'retry', actor=...)" in sent["message"]


def test_a_redirect_is_not_followed_whatever_the_url_says() -> None:
    """Apprise follows them by default, and a URL can ask for it."""
    with listening() as requests:
        requests.answer, requests.headers = 302, {"Location": f"{requests.url}/elsewhere"}
        url = f"{requests.url.replace('http', 'json')}/?redirect=yes"
        with pytest.raises(AlertNotDelivered):
            AppriseReceiver(url, allow_private=True)(an_alert())
    assert [path for path, _, _ in requests.seen] == ["/"]


@pytest.mark.parametrize("scheme", ["json", "mailto"])
def test_a_private_address_is_refused_as_it_is_connected_to(scheme: str) -> None:
    """By HTTP and by mail; and connections of others go on."""
    with listening() as requests:
        port = requests.url.rpartition(":")[2]
        receiver = AppriseReceiver(f"{scheme}://user:sesame@localhost:{port}/")
        with pytest.raises(AlertNotDelivered, match="not at a public address; allow_private=True") as caught:
            receiver(an_alert())
        assert "sesame" not in f"{caught.value}{receiver!r}"
        assert requests.seen == []
        socket.create_connection(("127.0.0.1", int(port))).close()


def connect_and_say_nothing(port: int) -> None:
    """Connect under watch, and try the next address, as libraries do, where that fails."""
    with public_only(), suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()


def send_and_say_nothing(port: int) -> None:
    """Send a datagram under watch."""
    with public_only(), suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"x", ("127.0.0.1", port))


@pytest.mark.parametrize("act", [connect_and_say_nothing, send_and_say_nothing])
def test_only_the_block_is_watched(act: Callable[[int], None]) -> None:
    """In it a connection to a private address fails, and so does a datagram; the block says so in the end."""
    with listening() as requests:
        port = int(requests.url.rpartition(":")[2])
        with pytest.raises(AddressRefused, match="allow_private=True"):
            act(port)
        socket.create_connection(("127.0.0.1", port)).close()


def test_one_service_of_two_that_fails_is_given_it_again_alone() -> None:
    """Whoever has taken it does not get it twice."""
    alert = an_alert()
    with listening() as well, listening() as ill:
        receiver = AppriseReceiver([each.url.replace("http", "json") for each in (well, ill)], allow_private=True)
        ill.answer = 500
        with pytest.raises(AlertNotDelivered, match="JSON: it did not take it"):
            receiver(alert)
        ill.answer = 200
        receiver(alert)
    assert (len(well.seen), len(ill.seen)) == (1, 2)


@pytest.mark.parametrize("url", ["nonsense", "nosuch://sesame", "slack://sesame", ""])
def test_a_url_that_apprise_does_not_take_is_refused_without_repeating_it(url: str) -> None:
    """It holds tokens."""
    with pytest.raises(ConfigurationError, match="URL number 1") as caught:
        AppriseReceiver(url)
    assert "sesame" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="one URL or more"):
        AppriseReceiver([])


def test_without_the_library_the_error_names_the_extra() -> None:
    """And `import projection_guard` needs none of it."""
    program = (
        "import sys; sys.modules['apprise'] = None\n"
        "import projection_guard\n"
        "try:\n    import projection_guard.apprise\nexcept ImportError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "Alerts through apprise need it: pip install 'projection-guard[alerts]'\n"
