"""Runs a program with a node beside it, whose port is in NODE_PORT."""

import os
import subprocess
import sys

from corelane import Node

with Node() as node:
    environment = {**os.environ, "NODE_PORT": str(node.port)}
    subprocess.run(sys.argv[1:], env=environment, check=True, timeout=300)
