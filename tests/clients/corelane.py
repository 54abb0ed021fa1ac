"""Starts and ends nodes for the tests of clients."""

import os
import socket
import subprocess
import tempfile
import time

START_S_MAX = 30


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Node:
    """A node of two cores on loopback, as a context manager."""

    def __init__(self, *settings, port=None, name="node"):
        self.port = port or free_port()
        command = [os.environ["NODE_BINARY"]]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin", "none", "--http", "none", "--cores", "2"]
        command += ["--pin", "off", "--memory", "256MiB", "--node-name", name, *settings]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def __enter__(self):
        start = time.monotonic()
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except ConnectionRefusedError:
                waited = time.monotonic() - start
                if self.process.poll() is not None or waited > START_S_MAX:
                    self.log.seek(0)
                    raise SystemExit(self.log.read().decode()) from None

    def __exit__(self, *_):
        self.process.terminate()
        code = self.process.wait(timeout=60)
        assert code == 0, f"the node ended with {code}"
