"""redis-cli, alone and at a terminal, and redis-benchmark."""

import os
import pty
import select
import subprocess
import termios
import time

from corelane import Node

WAIT_S_MAX = 30


def run(*command, text=None):
    done = subprocess.run(
        [str(word) for word in command], input=text, capture_output=True, timeout=300, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def check(node, command, expected):
    output = run("redis-cli", "-p", node.port, *command.split(" ")).rstrip("\n")
    assert output == expected, f"{command}: {output!r}, not {expected!r}"


def commands(node):
    check(node, "PING", "PONG")
    check(node, "SET key value EX 100", "OK")
    check(node, "GET key", "value")
    check(node, "TTL key", "100")
    check(node, "MGET key nosuch", "value")
    check(node, "INCRBY number 41", "41")
    check(node, "-n 3 DBSIZE", "0")
    check(node, "--scan --pattern k*", "key")
    check(node, "NOSUCH a", "ERR unknown command 'NOSUCH', with args beginning with: 'a' ")
    info = run("redis-cli", "-p", node.port, "INFO", "server")
    assert "redis_version:7.0.15" in info, info
    piped = "".join(f"SET pipe:{number} {number}\r\n" for number in range(10_000))
    done = run("redis-cli", "-p", node.port, "--pipe", text=piped)
    assert "errors: 0, replies: 10000" in done, done
    big = run("redis-cli", "-p", node.port, "--bigkeys")
    assert "Sampled 10002 keys" in big, big


class Terminal:
    """redis-cli as a person uses it."""

    def __init__(self, port):
        self.process, self.file = pty.fork()
        if self.process == 0:
            os.environ["TERM"] = "xterm"
            termios.tcsetwinsize(0, (24, 120))
            os.execvp("redis-cli", ["redis-cli", "-p", str(port)])
        self.shown = ""

    def expect(self, text):
        end = time.monotonic() + WAIT_S_MAX
        while text not in self.shown:
            assert time.monotonic() < end, f"no {text!r} in {self.shown!r}"
            if select.select([self.file], [], [], 1)[0]:
                self.shown += os.read(self.file, 65536).decode(errors="replace")
        self.shown = self.shown.split(text, 1)[1]

    def type(self, line):
        os.write(self.file, line.encode() + b"\r")


def session(node):
    terminal = Terminal(node.port)
    prompt = f"127.0.0.1:{node.port}"
    terminal.expect(prompt)
    for line, answer in [
        ("set person \"two words\"", "OK"),
        ("get person", "\"two words\""),
        ("multi", "OK"),
        ("incr visits", "QUEUED"),
        ("exec", "(integer) 1"),
        ("select 2", "OK"),
        ("get person", "(nil)"),
        ("hello 3", "\"proto\" => (integer) 3"),
        ("help get", "The value of a key"),
    ]:
        terminal.type(line)
        terminal.expect(answer)
        terminal.expect(prompt)
    terminal.type("quit")
    _, status = os.waitpid(terminal.process, 0)
    assert status == 0, status


def benchmark(node):
    tests = "ping_inline,ping_mbulk,set,get,incr,mset"
    for pipeline in [1, 16, 64]:
        output = run("redis-benchmark", "-p", node.port, "-n", 20_000, "-P", pipeline, "-c", 20,
                     "-r", 1_000, "-t", tests, "--csv")
        names = [line.split(",")[0].strip('"') for line in output.splitlines()]
        for name in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"]:
            assert name in names, output


if __name__ == "__main__":
    with Node() as node:
        commands(node)
        session(node)
        benchmark(node)
