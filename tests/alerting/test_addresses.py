"""Public addresses are those of hosts on the internet, in whatever form one of IPv4 is written."""

from __future__ import annotations

import pytest

from projection_guard._addresses import is_public


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public(address: str) -> None:
    """Those may be reached."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:7f00:0:100:808:808",
        "2002:7f00:1::1",
        "2002:101:101::1",
        "2001:0:a9fe:a9fe::1",
        "2001:db8::1",
        "localhost",
        "",
    ],
)
def test_not_public(address: str) -> None:
    """Neither is what is no address: a name says nothing of where it leads."""
    assert not is_public(address)
