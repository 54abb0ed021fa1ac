"""pymemcache, pylibmc (libmemcached) and meta-memcache, which speaks the meta protocol."""

import os

import pylibmc
from meta_memcache import CacheClient, Key, ServerAddress, connection_pool_factory_builder
from pymemcache.client.base import Client

host, port = "127.0.0.1", int(os.environ["NODE_PORT"])


def with_pymemcache():
    client = Client((host, port), timeout=10, connect_timeout=10, default_noreply=False)
    client.flush_all()
    assert client.get("key") is None
    assert client.set("key", b"value", expire=100)
    assert client.get("key") == b"value"
    assert not client.add("key", b"other")
    assert client.append("key", b"!") and client.prepend("key", b"?")
    value, version = client.gets("key")
    assert value == b"?value!"
    assert client.cas("key", b"new", version) is True
    assert client.cas("key", b"newer", version) is False
    assert client.set("number", b"41") and client.incr("number", 1) == 42
    assert client.decr("number", 100) == 0 and client.incr("absent", 1) is None
    many = {f"many{number}": bytes([number]) * 100 for number in range(100)}
    assert client.set_many(many) == []
    assert client.get_many(list(many) + ["absent"]) == many
    assert client.touch("key", 10) and client.delete("key") and not client.delete("key")
    large = bytes(range(256)) * 4000
    assert client.set("large", large) and client.get("large") == large
    assert client.stats()[b"curr_items"] > 100
    assert client.version().startswith(b"1.6.")
    client.set("quiet", b"1", noreply=True)
    assert client.get("quiet") == b"1"
    client.close()


def with_pylibmc():
    behaviors = {"cas": True, "tcp_nodelay": True}
    client = pylibmc.Client([f"{host}:{port}"], binary=False, behaviors=behaviors)
    client.flush_all()
    assert client.set("key", {"a": 1}, time=100) and client.get("key") == {"a": 1}
    value, version = client.gets("key")
    assert client.cas("key", "new", version) and not client.cas("key", "newer", version)
    assert client.set_multi({str(n): n for n in range(100)}) == []
    assert client.get_multi([str(n) for n in range(101)]) == {str(n): n for n in range(100)}
    assert client.incr("1", 5) == 6 and client.decr("1", 2) == 4
    assert client.delete("key") and client.get("key") is None
    (_, stats), = client.get_stats()
    assert int(stats["curr_items"]) >= 100


def with_meta_memcache():
    servers = [ServerAddress(host, port)]
    cache = CacheClient.cache_client_from_servers(servers, connection_pool_factory_builder())
    key = Key("meta:key")
    assert cache.delete(key) is not None
    assert cache.get(key) is None
    assert cache.set(key, "value", ttl=100) and cache.get(key) == "value"
    # Versions have 64 bits, of which this client reads fewer: it gives them back as none.
    assert cache.get_cas(key)[0] == "value" and cache.set(key, "new", ttl=100)
    assert cache.touch(key, ttl=50) and cache.get(key) == "new"
    number = Key("meta:number")
    assert cache.delta_initialize(number, 5, initial_value=10, initial_ttl=100) is True
    assert cache.delta_and_get(number, 7) == 17
    binary = Key("schlüssel mit Leerzeichen")
    assert cache.set(binary, b"bytes", ttl=100) and cache.get(binary) == b"bytes"
    keys = [Key(f"meta:{number}") for number in range(100)]
    assert all(cache.set(key, key.key, ttl=100) for key in keys)
    assert cache.multi_get(keys) == {key: key.key for key in keys}


for test in (with_pymemcache, with_pylibmc, with_meta_memcache):
    test()
    print(test.__name__.removeprefix("with_"), "ok")
