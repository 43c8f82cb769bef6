"""Cuts a test process off from every network but loopback.

Python imports a module of this name at start-up from PYTHONPATH, so a notebook's kernel is cut off
before its first cell. An audit hook sees each attempt, whichever library makes it, and cannot be
undone by the code under test.
"""

import errno
import ipaddress
import socket
import sys

MESSAGE = "the network is blocked in tests"


def _is_local(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost", "0.0.0.0", "::") or host == socket.gethostname():
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse(event: str, arguments: tuple) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        if not _is_local(arguments[0]):
            raise socket.gaierror(socket.EAI_FAIL, f"{MESSAGE}: {arguments[0]}")
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        # an address that is no (host, port, …) is a path: a Unix socket
        if isinstance(address, tuple) and not _is_local(address[0]):
            raise OSError(errno.ENETUNREACH, f"{MESSAGE}: {address[0]}")


sys.addaudithook(_refuse)
