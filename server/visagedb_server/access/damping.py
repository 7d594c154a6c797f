"""What wrong keys cost their sender, and nobody else.

A secret of 256 bits is not found by trying. What wrong keys can do is fill the log and keep the
server busy, so a host that sends many is answered briefly. A right key is never refused for what
others did, from the same address or not: it is compared first, which costs microseconds.
"""

import ipaddress
import threading
import time
from collections import OrderedDict
from urllib.parse import unquote

from visagedb_server import limits


class WrongKeys:
    """How many wrong keys each host has sent of late: a bucket of tokens per host.

    As many hosts are remembered as `limits.WRONG_KEY_HOSTS_MAX`; all of them share one bucket
    that is as large as that of a hundred hosts, so that many addresses are damped as well.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._all = (100.0 * limits.WRONG_KEYS_BURST, time.monotonic())

    def admit(self, peer: str) -> bool:
        """Counts a wrong key; whether it is answered, logged and audited in full.

        Args:
            peer: As gRPC names it, for example ``ipv4:10.0.0.1:5000``.
        """
        host, now = host_of(peer), time.monotonic()
        with self._lock:
            self._all, everybody = _take(self._all, now, 100)
            bucket = self._hosts.pop(host, (float(limits.WRONG_KEYS_BURST), now))
            self._hosts[host], alone = _take(bucket, now, 1)
            if len(self._hosts) > limits.WRONG_KEY_HOSTS_MAX:
                self._hosts.popitem(last=False)
            return everybody and alone


def _take(bucket: tuple[float, float], now: float, hosts: int) -> tuple[tuple[float, float], bool]:
    """The bucket after one token was asked for, and whether there was one."""
    tokens, then = bucket
    filled = tokens + (now - then) * hosts / limits.WRONG_KEY_SECONDS
    filled = min(filled, float(hosts * limits.WRONG_KEYS_BURST))
    return ((filled - 1, now), True) if filled >= 1 else ((filled, now), False)


def host_of(peer: str) -> str:
    """The address of a peer without its port; of IPv6 the network, as one host has all of it."""
    kind, _, rest = unquote(peer).partition(":")
    address = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    if kind == "ipv6":
        try:
            return str(ipaddress.ip_network(f"{address}/64", strict=False))
        except ValueError:
            return address
    return address if kind == "ipv4" else rest
