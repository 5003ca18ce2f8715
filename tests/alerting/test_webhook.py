"""The signed webhook: what is sent can be verified, and goes nowhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from projection_guard import AlertNotDelivered, ConfigurationError
from projection_guard._addresses import AddressRefused
from projection_guard.webhook import SignedWebhook
from tests.alerting.listening import an_alert, listening
from tests.alerting.told import outage, pass_and_work, policy_of, watched
from tests.bed import Bed

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OLD = base64.b64encode(b"o" * 24).decode()


def verified(request: tuple[str, dict[str, str], bytes], key: bytes = KEY) -> dict[str, Any]:
    """Verify a request as the specification says, with nothing of the library's, and return its body."""
    _, headers, body = request
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert f"v1,{expected}" in headers["webhook-signature"].split(" ")
    read: dict[str, Any] = json.loads(body)
    return read


def test_what_is_sent_can_be_verified_by_the_specification() -> None:
    """With each of two secrets, while the old one is being exchanged for the new one."""
    alert = an_alert()
    with listening() as requests:
        SignedWebhook(f"{requests.url}/hook?team=a", secret=[SECRET, OLD], allow_private=True)(alert)
    (request,) = requests.seen
    body = verified(request)
    assert verified(request, b"o" * 24) == body
    path, headers, _ = request
    assert (path, headers["content-type"], headers["webhook-id"]) == ("/hook?team=a", "application/json", str(alert.id))
    assert abs(int(headers["webhook-timestamp"]) - alert.at.timestamp()) < 60
    assert body == {
        "type": "projection_guard.alert.firing",
        "timestamp": alert.at.isoformat(),
        "data": alert.as_json(),
    }


def test_the_example_of_the_specification() -> None:
    """Its own key, id, time and body give its own signature."""
    hook = SignedWebhook("https://example.org", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = hook._signatures("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    """Wherever it leads: the error says so, and nothing more is sent."""
    with listening() as requests:
        requests.answer, requests.headers = status, {"Location": f"{requests.url}/elsewhere"}
        with pytest.raises(AlertNotDelivered, match=f"127.0.0.1 answered {status}: redirects are not followed"):
            SignedWebhook(requests.url, secret=SECRET, allow_private=True)(an_alert())
    assert [path for path, _, _ in requests.seen] == ["/"]


@pytest.mark.parametrize("status", [400, 410, 429, 500])
def test_any_other_answer_is_not_delivered(status: int) -> None:
    """The error names host and status, and nothing of the path."""
    with listening() as requests:
        requests.answer = status
        with pytest.raises(AlertNotDelivered, match=f"^127.0.0.1 answered {status}$"):
            SignedWebhook(f"{requests.url}/token-in-the-path", secret=SECRET, allow_private=True)(an_alert())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "169.254.169.254"])
def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    """However it is written; nothing is connected to."""
    with pytest.raises(AlertNotDelivered) as caught:
        SignedWebhook(f"https://{host}:9/", secret=SECRET)(an_alert())
    assert isinstance(caught.value, AddressRefused) or "could not be resolved" in str(caught.value)


def test_a_name_that_resolves_anew_reaches_only_what_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once: another answer to a second question (DNS rebinding) is never heard."""
    asked: list[str] = []

    def first_public_then_private(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        address = "192.0.2.1" if len(asked) > 1 else "93.184.215.14"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected: list[object] = []

    class NotReally(socket.socket):
        def connect(self, address: Any) -> None:
            connected.append(address)
            raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", first_public_then_private)
    monkeypatch.setattr(socket, "socket", NotReally)
    with pytest.raises(AlertNotDelivered, match=r"rebinding\.example was not reached"):
        SignedWebhook("https://rebinding.example/", secret=SECRET)(an_alert())
    assert asked == ["rebinding.example"]
    assert connected == [("93.184.215.14", 443)]


def test_an_address_that_does_not_answer_leaves_time_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host has two addresses, and the first leads nowhere, as where a network lets nothing of IPv6 through."""
    with listening() as requests, socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(3):  # its queue is full from then on, and further ones get no answer
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        ports = [full.getsockname()[1], int(requests.url.rpartition(":")[2])]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        SignedWebhook(requests.url, secret=SECRET, allow_private=True, timeout_seconds=4.0)(an_alert())
    assert len(requests.seen) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """One that a server has signed itself, like anybody in between could."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    kept = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (tmp_path / "pem").write_bytes(kept + certificate.public_bytes(serialization.Encoding.PEM))
    with (
        listening(tmp_path / "pem") as requests,
        pytest.raises(AlertNotDelivered, match=r"\(SSLCertVerificationError\)$"),
    ):
        SignedWebhook(requests.url, secret=SECRET, allow_private=True)(an_alert())
    assert requests.seen == []


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Generator[str]:
    """Answer one connection in an odd way."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join()


def drips(connection: socket.socket) -> None:
    """Answer one byte after the other, for ever."""
    with connection:
        while True:
            try:
                connection.sendall(b"H")
                connection.settimeout(0.02)
                connection.recv(1)
                return
            except TimeoutError:
                continue
            except OSError:
                return


def floods(connection: socket.socket) -> None:
    """Answer with a head that does not end."""
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-More: " + b"x" * 8000 + b"\r\n")
    except OSError:
        return


@pytest.mark.parametrize(
    ("answer", "seconds", "says"),
    [
        (drips, 0.3, "was not reached (TimeoutError)"),
        (floods, 60, "longer than 16 KiB"),
        (lambda connection: connection.sendall(b"SSH-2.0-x\r\n\r\n"), 60, "not one of HTTP/1.1"),
        (lambda connection: None, 60, "closed before there was an answer"),
    ],
    ids=["drips", "floods", "no HTTP", "nothing"],
)
def test_a_server_that_answers_oddly_costs_little(
    answer: Callable[[socket.socket], None], seconds: float, says: str
) -> None:
    """The time is that of the whole exchange, and what is read is bounded."""
    with answering(answer) as url:
        hook = SignedWebhook(url, secret=SECRET, allow_private=True, timeout_seconds=seconds)
        with pytest.raises(AlertNotDelivered) as caught:
            hook(an_alert())
    assert says in str(caught.value)


def test_an_interim_answer_is_none() -> None:
    """103 comes before the answer, which is what counts."""
    both = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    with answering(lambda connection: connection.sendall(both)) as url:
        SignedWebhook(url, secret=SECRET, allow_private=True)(an_alert())


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://example.org/", {}),
        ("ftp://example.org/", {"allow_private": True}),
        ("https://user:sesame@example.org/", {}),
        ("https:///sesame", {}),
        ("https://example.org/sesame\r\nHost: x", {}),
        ("https://example.org:99999999/sesame", {}),
        ("https://example.org/", {"secret": "whsec_sesame"}),
        ("https://example.org/", {"secret": base64.b64encode(b"sesame").decode()}),
        ("https://example.org/", {"secret": []}),
        ("https://example.org/", {"timeout_seconds": 0}),
    ],
)
def test_what_cannot_be_is_refused_without_repeating_it(url: str, options: dict[str, Any]) -> None:
    """An address or a secret that is wrong may be a right one that was mistyped."""
    with pytest.raises(ConfigurationError) as caught:
        SignedWebhook(url, **{"secret": SECRET, **options})
    assert "sesame" not in str(caught.value)


def test_neither_secret_nor_path_are_shown() -> None:
    """Nor by any attribute's `repr`."""
    hook = SignedWebhook("https://example.org/token", secret=SECRET)
    assert repr(hook) == "SignedWebhook(https://example.org/...)"


def test_alerts_of_a_guard_come_by_webhook(sqlite_bed: Bed) -> None:
    """Failing at first, it is sent again with the same id and a new signature."""
    with listening() as requests:
        requests.answer = 503
        bed = sqlite_bed
        guard = watched(bed, policy_of(SignedWebhook(requests.url, secret=SECRET, allow_private=True), exhausted=True))
        outage(bed, guard)
        guard.work()
        assert len(guard.alerts()[0].undelivered) == 1
        requests.answer = 200
        pass_and_work(guard)
        assert guard.alerts()[0].undelivered == ()
    first, second = requests.seen
    assert verified(first) == verified(second)
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
