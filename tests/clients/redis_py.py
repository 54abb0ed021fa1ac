"""redis-py: its commands in both protocols, pipelines, transactions, and its cluster client."""

import os
import tempfile

import redis
from redis.cluster import RedisCluster

from corelane import Node, free_port


def commands(node, protocol):
    client = redis.Redis(port=node.port, protocol=protocol, decode_responses=True)
    client.flushall()
    assert client.ping()
    assert client.set("key", "value", ex=100)
    assert client.get("key") == "value"
    assert 0 < client.ttl("key") <= 100
    assert client.set("key", "other", nx=True) is None
    assert client.set("key", "other", xx=True, get=True) == "value"
    assert client.getex("key", persist=True) == "other"
    assert client.ttl("key") == -1
    assert client.getdel("key") == "other"
    assert client.mset({f"many:{number}": number for number in range(100)})
    assert client.mget([f"many:{number}" for number in range(101)])[98:] == ["98", "99", None]
    assert client.dbsize() == 100
    assert sorted(client.scan_iter(match="many:1*")) == sorted(client.keys("many:1*"))
    assert len(list(client.scan_iter(count=7))) == 100
    assert client.incr("number", 5) == 5
    assert client.incrbyfloat("number", 0.5) == 5.5
    assert client.append("text", "abc") == 3
    assert client.setrange("text", 1, "XY") == 3
    assert client.getrange("text", 0, -1) == "aXY"
    assert client.expire("text", 50, nx=True)
    assert not client.expire("text", 60, nx=True)
    assert client.rename("{tag}missing" if client.set("{tag}a", 1) is None else "{tag}a", "{tag}b")
    assert client.copy("{tag}b", "{tag}c")
    assert client.type("{tag}c") == "string"
    assert client.delete("{tag}b", "{tag}c", "nosuch") == 2
    assert client.info()["redis_version"] == "7.0.15"
    assert client.info("clients")["connected_clients"] >= 1
    assert client.info("stats")["total_commands_processed"] > 100
    assert client.info("keyspace")["db0"]["keys"] == client.dbsize()
    assert client.config_get("maxmemory*")["maxmemory"].isdigit()
    assert client.client_setname("tester")
    assert client.client_getname() == "tester"
    assert any(one["name"] == "tester" for one in client.client_list())
    assert client.command_count() > 60
    assert client.memory_usage("number") > 0
    assert len(client.time()) == 2
    try:
        client.incr("text")
        raise AssertionError("text is no number")
    except redis.ResponseError as error:
        assert str(error) == "value is not an integer or out of range", error
    client.close()


def pipelines(node):
    client = redis.Redis(port=node.port)
    with client.pipeline(transaction=False) as pipeline:
        for number in range(1_000):
            pipeline.set(f"pipe:{number}", number)
            pipeline.get(f"pipe:{number}")
        answers = pipeline.execute()
    assert answers == [answer for number in range(1_000) for answer in (True, b"%d" % number)]
    with client.pipeline() as pipeline:
        pipeline.set("{slot}a", 1).incr("{slot}a").get("{slot}a").delete("{slot}b")
        assert pipeline.execute() == [True, 2, b"2", 0]

    def double(pipeline):
        number = int(pipeline.get("{slot}a"))
        pipeline.multi()
        pipeline.set("{slot}a", number * 2)

    assert client.transaction(double, "{slot}a") == [True]
    with client.pipeline() as pipeline:
        pipeline.watch("{slot}a")
        client.set("{slot}a", "changed")
        pipeline.multi()
        pipeline.get("{slot}a")
        try:
            pipeline.execute()
            raise AssertionError("a watched key was changed")
        except redis.WatchError:
            pass
    try:
        client.pipeline().set("a", 1).set("b", 1).set("c", 1).execute()
        raise AssertionError("three keys of three slots")
    except redis.ResponseError as error:
        assert "same slot" in str(error), error
    large = os.urandom(1 << 20)
    assert client.set("large", large)
    assert client.get("large") == large
    client.close()


def token():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("a token that nobody guesses\n")
        file.flush()
        with Node("--auth-token-file", file.name) as node:
            for username in [None, "default"]:
                client = redis.Redis(
                    port=node.port, username=username, password="a token that nobody guesses"
                )
                assert client.set("key", 1)
                client.close()
            for password, wrong in [
                ("wrong", redis.AuthenticationError), (None, redis.AuthenticationError)
            ]:
                try:
                    redis.Redis(port=node.port, password=password).get("key")
                    raise AssertionError("the token was not proved")
                except wrong:
                    pass


def cluster():
    ports = [free_port(), free_port()]
    nodes = "".join(
        f'[[nodes]]\nname = "node-{number}"\naddresses = ["127.0.0.1:{port}"]\n'
        for number, port in enumerate(ports)
    )
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(f"epoch = 1\nowners = 1\n{nodes}")
        file.flush()
        first, second = [
            Node("--topology", file.name, port=port, name=f"node-{number}")
            for number, port in enumerate(ports)
        ]
        with first, second:
            client = RedisCluster(host="127.0.0.1", port=ports[0], decode_responses=True)
            assert len(client.get_nodes()) == 2
            for number in range(1_000):
                assert client.set(f"key:{number}", number)
            for number in range(1_000):
                assert client.get(f"key:{number}") == str(number)
            sizes = [redis.Redis(port=port).dbsize() for port in ports]
            assert sum(sizes) == 1_000 and min(sizes) > 200, sizes
            assert client.mset_nonatomic({f"many:{number}": number for number in range(50)})
            many = client.mget_nonatomic([f"many:{number}" for number in range(50)])
            assert many == [str(number) for number in range(50)]
            for slot in ["{a}", "{b}", "{c}"]:
                assert client.mset({f"{slot}1": 1, f"{slot}2": 2})
                assert client.mget(f"{slot}1", f"{slot}2") == ["1", "2"]
            with client.pipeline() as pipeline:
                for number in range(100):
                    pipeline.get(f"key:{number}")
                assert pipeline.execute() == [str(number) for number in range(100)]
            assert sorted(client.scan_iter(match="key:*", count=100)) == sorted(
                f"key:{number}" for number in range(1_000)
            )
            # Asked of the wrong node, a request is redirected.
            errors = 0
            for port in ports:
                try:
                    redis.Redis(port=port).get("key:1")
                except redis.ResponseError as error:
                    assert "MOVED" in str(error) or str(error).split()[0].isdigit(), error
                    errors += 1
            assert errors == 1
            client.close()


if __name__ == "__main__":
    with Node() as node:
        commands(node, 2)
        commands(node, 3)
        pipelines(node)
    token()
    cluster()
