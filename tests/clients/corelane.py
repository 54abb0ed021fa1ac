"""Starts and ends nodes and clusters for the tests of clients."""

import os
import socket
import subprocess
import tempfile
import time
import urllib.request

START_S_MAX = 30


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Node:
    """A node of two cores on loopback, as a context manager."""

    def __init__(self, *settings, port=None, name="node", admin="none"):
        self.port = port or free_port()
        command = [os.environ["NODE_BINARY"]]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin", admin, "--http", "none", "--cores", "2"]
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


class Cluster:
    """Nodes that share the slots by a topology, each with a file of its own, as a context manager."""

    def __init__(self, count):
        self.directory = tempfile.TemporaryDirectory()
        self.ports = [free_port() for _ in range(count)]
        self.admin = [free_port() for _ in range(count)]
        self.epoch = 1
        self.nodes = []
        for number in range(count):
            with open(self.file(number), "w") as file:
                file.write(self.topology(range(count)))
            self.nodes.append(self.start(number))

    def file(self, number):
        return os.path.join(self.directory.name, f"node-{number}.toml")

    def start(self, number):
        return Node("--topology", self.file(number), port=self.ports[number],
                    name=f"node-{number}", admin=f"127.0.0.1:{self.admin[number]}").__enter__()

    def topology(self, members):
        nodes = "".join(
            f'[[nodes]]\nname = "node-{number}"\naddresses = ["127.0.0.1:{self.ports[number]}"]\n'
            for number in members
        )
        return f"epoch = {self.epoch}\nowners = 1\n{nodes}"

    def put(self, *members):
        """Gives the slots to these nodes, and tells all."""
        self.epoch += 1
        for port in self.admin:
            body = self.topology(members).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/topology", data=body, method="PUT"
            )
            with urllib.request.urlopen(request, timeout=START_S_MAX) as answer:
                assert answer.status == 200, answer.read()

    def restart(self, number):
        """Ends a node in good order and starts it again, without its entries."""
        self.nodes[number].__exit__()
        self.nodes[number] = self.start(number)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.__exit__()
        self.directory.cleanup()
