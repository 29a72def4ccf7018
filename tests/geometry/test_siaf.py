"""SIAF is read from the installed package, without the network."""

import subprocess
import sys

PROGRAM = """
import socket

asked = []


def look_up(host, *_, **__):
    asked.append(host)
    raise OSError("no network")


socket.getaddrinfo = look_up
import requests

get = requests.get
from cosmosaic.geometry.siaf import nircam_apertures

assert "NRCB1_FULL" in nircam_apertures().apertures
assert asked == [], asked
assert requests.get is get
"""


def test_apertures_are_read_without_asking_the_network() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
