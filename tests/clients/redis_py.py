"""redis-py: its commands in both protocols, pipelines and transactions."""

import os
import tempfile

import redis

from corelane import Node


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
    before = client.config_get("maxmemory*")
    assert before["maxmemory"].isdigit()
    assert client.config_set("maxmemory-policy", "allkeys-lfu")
    assert client.config_get("maxmemory*") == {**before, "maxmemory-policy": "allkeys-lfu"}
    assert client.info("memory")["maxmemory_policy"] == "allkeys-lfu"
    client.set("counted", "1")
    assert client.object("freq", "counted") == 0
    for policy, memory in [("nosuch", "100mb"), ("noeviction", "1")]:
        try:
            client.config_set("maxmemory-policy", policy, "maxmemory", memory)
        except redis.ResponseError as error:
            assert str(error).startswith("CONFIG SET failed"), error
        else:
            raise AssertionError("settings that cannot be were taken")
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lfu"}
    assert client.config_set("maxmemory-policy", before["maxmemory-policy"])
    assert client.client_setname("tester")
    assert client.client_getname() == "tester"
    (own,) = [one for one in client.client_list() if one["name"] == "tester"]
    assert own["addr"].startswith("127.0.0.1:") and own["laddr"] != own["addr"], own
    assert own["dialect"] == "resp", own
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


if __name__ == "__main__":
    with Node() as node:
        commands(node, 2)
        commands(node, 3)
        pipelines(node)
    token()
