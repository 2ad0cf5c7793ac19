"""Set-up for all tests: checked shape annotations, one thread, no network."""

from __future__ import annotations

import os
import socket

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

import training.unpickle  # noqa: F401  (before the hook: it has no shapes, and checking its tiny steps takes seconds)

check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is welcome where a float is
install_import_hook("training", "tests.conftest.check_types")
torch.set_num_threads(1)

LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost", ""}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave the machine in no test; processes on it may talk to each other."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address):
        if self.family != socket.AF_UNIX and address[0] not in LOCAL_HOSTS:
            raise OSError(f"a test tried to reach {address[0]}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)
