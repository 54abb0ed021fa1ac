"""Clients of Redis Cluster on three nodes, whose topology changes and one of which restarts under
them: redis-py's cluster client, redis-cli -c, and ioredis (in ioredis_cluster.cjs)."""

import os
import subprocess

import redis
from redis.cluster import RedisCluster

from corelane import Cluster

KEYS = 1_000


def moved(port, key):
    """Whether a node sends who asks it for a key elsewhere, without a client that would go."""
    client = redis.Redis(port=port)
    try:
        client.get(key)
        return False
    except redis.ResponseError as error:
        assert "MOVED" in str(error) or str(error).split()[0].isdigit(), error
        return True
    finally:
        client.close()


def items(port):
    client = redis.Redis(port=port)
    size = client.dbsize()
    client.close()
    return size


def write_and_read(client):
    for number in range(KEYS):
        assert client.set(f"key:{number}", number)
    for number in range(KEYS):
        assert client.get(f"key:{number}") == str(number)


def commands(cluster):
    client = RedisCluster(host="127.0.0.1", port=cluster.ports[0], decode_responses=True)
    assert len(client.get_nodes()) == 3
    write_and_read(client)
    sizes = [items(port) for port in cluster.ports]
    assert sum(sizes) == KEYS and min(sizes) > 200, sizes
    # Every key has one node, and the two others say where it is.
    for number in range(20):
        assert sum(moved(port, f"key:{number}") for port in cluster.ports) == 2
    for number in range(60):
        key = f"command:{number}"
        assert client.incr(key, 41) == 41
        assert client.decr(key) == 40
        assert client.append(key, "2") == 3
        assert client.getrange(key, 0, 1) == "40"
        assert client.expire(key, 100) and 0 < client.ttl(key) <= 100
        assert client.persist(key) and client.ttl(key) == -1
        assert client.set(key, "x", nx=True) is None
        assert client.getset(key, "y") == "402"
        assert client.type(key) == "string" and client.exists(key) == 1
        assert client.getdel(key) == "y" and client.exists(key) == 0
    assert client.mset_nonatomic({f"many:{number}": number for number in range(50)})
    many = [f"many:{number}" for number in range(50)]
    assert client.mget_nonatomic(many) == [str(number) for number in range(50)]
    assert client.delete(*many) == 50
    for tag in ["{a}", "{b}", "{c}", "{d}"]:
        assert client.mset({f"{tag}1": 1, f"{tag}2": 2})
        assert client.mget(f"{tag}1", f"{tag}2") == ["1", "2"]
        assert client.rename(f"{tag}1", f"{tag}3") and client.delete(f"{tag}2", f"{tag}3") == 2
    with client.pipeline() as pipeline:
        for number in range(KEYS):
            pipeline.get(f"key:{number}")
        assert pipeline.execute() == [str(number) for number in range(KEYS)]
    expected = sorted(f"key:{number}" for number in range(KEYS))
    assert sorted(client.scan_iter(match="key:*", count=100)) == expected
    everywhere = {"target_nodes": RedisCluster.PRIMARIES}
    assert client.dbsize(**everywhere) == KEYS

    # Node 2 goes, and the client learns of it by being sent elsewhere.
    cluster.put(0, 1)
    kept = sum(client.get(f"key:{number}") == str(number) for number in range(KEYS))
    assert kept == sizes[0] + sizes[1], f"{kept} of {sizes}"
    write_and_read(client)
    assert items(cluster.ports[2]) == 0
    cluster.put(0, 1, 2)
    write_and_read(client)
    assert min(items(port) for port in cluster.ports) > 200

    # A node that restarts has lost its share, and serves it again.
    lost = items(cluster.ports[1])
    cluster.restart(1)
    kept = sum(client.get(f"key:{number}") is not None for number in range(KEYS))
    assert kept == KEYS - lost, f"{kept} kept, {lost} lost"
    write_and_read(client)
    assert client.flushall(**everywhere)
    assert client.dbsize(**everywhere) == 0
    client.close()


def redis_cli(cluster, *command, text=None):
    done = subprocess.run(
        ["redis-cli", "-c", "-p", str(cluster.ports[0]), *command],
        input=text, capture_output=True, timeout=300, text=True,
    )
    assert done.returncode == 0, done
    return [line for line in done.stdout.splitlines() if not line.startswith("->")]


def command_line(cluster):
    for number in range(30):
        assert redis_cli(cluster, "SET", f"one:{number}", str(number)) == ["OK"]
    # One process, which goes from node to node.
    text = "".join(f"GET one:{number}\nINCR one:{number}\n" for number in range(30))
    expected = [line for number in range(30) for line in (str(number), str(number + 1))]
    assert redis_cli(cluster, text=text) == expected
    cluster.put(1, 2)
    text = "".join(f"SET one:{number} {number}\nGET one:{number}\n" for number in range(30))
    expected = [line for number in range(30) for line in ("OK", str(number))]
    assert redis_cli(cluster, text=text) == expected
    cluster.restart(0)
    assert items(cluster.ports[0]) == 0
    assert redis_cli(cluster, text=text) == expected
    cluster.put(0, 1, 2)
    assert redis_cli(cluster, text=text) == expected
    shown = redis_cli(cluster, "CLUSTER", "SHARDS")
    assert all(str(port) in shown for port in cluster.ports), shown


def ioredis(cluster):
    environment = {**os.environ, "NODE_PORTS": ",".join(map(str, cluster.ports))}
    program = os.path.join(os.path.dirname(__file__), "ioredis_cluster.cjs")
    process = subprocess.Popen(
        ["node", program], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )

    def phase():
        line = process.stdout.readline()
        assert line == "done\n", f"{line!r} from ioredis"

    def go_on():
        process.stdin.write("go on\n")
        process.stdin.flush()

    with process:
        try:
            phase()
            cluster.put(0, 2)
            go_on()
            phase()
            cluster.restart(2)
            go_on()
            phase()
            cluster.put(0, 1, 2)
            go_on()
            phase()
            process.stdin.close()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


if __name__ == "__main__":
    with Cluster(3) as cluster:
        commands(cluster)
        command_line(cluster)
        ioredis(cluster)
