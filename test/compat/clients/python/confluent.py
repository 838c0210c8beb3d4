"""confluent-kafka (librdkafka) against the broker at argv[1]."""
import sys
import threading
import time

from checks import check, end, until
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   ResourceType)

address = sys.argv[1]
prefix = "confluent-"
admin = AdminClient({"bootstrap.servers": address})
codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
then = int(time.time() * 1000) - 3_600_000


def settle(futures):
    for future in futures.values():
        future.result(20)


def read(topic, count, **settings):
    reader = Consumer({"bootstrap.servers": address, "group.id": prefix + "reader", "enable.auto.commit": False, **settings})
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    got, deadline = [], time.time() + 20
    while len(got) < count and time.time() < deadline:
        for message in reader.consume(count - len(got), 1.0):
            if message.error():
                raise KafkaException(message.error())
            got.append(message)
    reader.close()
    assert len(got) == count, f"{len(got)} of {count} records"
    return got


def send(records, **settings):
    """Produces (topic, arguments) and returns errors and offsets in the order of delivery."""
    told = []
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, **settings})
    for topic, arguments in records:
        producer.produce(topic, on_delivery=lambda error, message: told.append((error, message.offset())), **arguments)
    left = producer.flush(20)
    assert left == 0, f"{left} not delivered"
    return told


@check("topics are created and described")
def _():
    settle(admin.create_topics([NewTopic(prefix + c, 1, 1) for c in codecs] + [
        NewTopic(prefix + "group", 4, 1), NewTopic(prefix + "acks", 1, 1), NewTopic(prefix + "gone", 2, 1),
        NewTopic(prefix + "group848", 4, 1), NewTopic(prefix + "large", 1, 1, config={"max.message.bytes": "2000000"})]))
    until("topics", lambda: prefix + "large" in admin.list_topics(timeout=10).topics)
    assert len(admin.list_topics(prefix + "group", timeout=10).topics[prefix + "group"].partitions) == 4


@check("every codec, with keys, nulls, headers and timestamps")
def _():
    for codec in codecs:
        told = send([(prefix + codec, dict(key=b"k%d" % i, value=None if i % 10 == 0 else b"value %d" % i, partition=0,
                                           headers=[("h", b"%d" % i), ("null", None)], timestamp=then + i)) for i in range(100)],
                    **{"compression.codec": codec})
        assert all(e is None for e, _ in told) and [o for _, o in told] == list(range(100)), told[:3]
        for i, message in enumerate(read(prefix + codec, 100, **{"check.crcs": True})):
            assert message.key() == b"k%d" % i and message.offset() == i and message.timestamp()[1] == then + i
            assert message.value() == (None if i % 10 == 0 else b"value %d" % i)
            assert message.headers() == [("h", b"%d" % i), ("null", None)]


@check("acknowledgements 0, 1 and all; idempotent")
def _():
    for settings in ({"acks": 0}, {"acks": 1}, {"acks": "all"}, {"enable.idempotence": True}):
        send([(prefix + "acks", dict(value=b"x")) for _ in range(10)], **settings)
    read(prefix + "acks", 40)


@check("large messages")
def _():
    sizes = [1_000_000, 1_900_000, 2_100_000]
    told = send([(prefix + "large", dict(value=b"x" * n)) for n in sizes], **{"message.max.bytes": 3_000_000, "batch.num.messages": 1})
    assert [e is None for e, _ in told] == [True, True, False], told
    assert told[2][0].name() == "MSG_SIZE_TOO_LARGE", told[2]
    assert [len(m.value()) for m in read(prefix + "large", 2, **{"fetch.message.max.bytes": 3_000_000})] == sizes[:2]


@check("look-up by time, watermarks")
def _():
    reader = Consumer({"bootstrap.servers": address, "group.id": prefix + "times"})
    topic = prefix + "lz4"
    assert reader.offsets_for_times([TopicPartition(topic, 0, then + 42)], 10)[0].offset == 42
    assert reader.offsets_for_times([TopicPartition(topic, 0, then + 100_000)], 10)[0].offset == -1
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 100)
    reader.close()


def group(topic, name, **settings):
    send([(topic, dict(value=b"%d" % i, partition=i % 4)) for i in range(200)])
    seen, owned, read, stop, errors, committed = [], {}, {}, threading.Event(), [], threading.Barrier(2)

    def member(who):
        reader = Consumer({"bootstrap.servers": address, "group.id": name, "auto.offset.reset": "earliest",
                           "enable.auto.commit": False, **settings})
        reader.subscribe([topic])
        while not stop.is_set():
            for message in reader.consume(50, 0.2):
                if message.error():
                    errors.append(message.error())
                else:
                    seen.append(message.value())
            parts = reader.assignment()
            owned[who], read[who] = len(parts), sum(max(p.offset, 0) for p in reader.position(parts))
        reader.commit(asynchronous=False)
        committed.wait(30)  # who leaves earlier has the other one rebalance, and forget what it has not committed
        reader.close()

    threads = [threading.Thread(target=member, args=(n,)) for n in "ab"]
    for t in threads:
        t.start()
    try:
        until("both own two", lambda: owned.get("a") == 2 and owned.get("b") == 2, 30)
        # What one has read and then given up without a commit, the other reads again.
        until("all is read", lambda: len(set(seen)) == 200 and sum(read.values()) == 200, 30)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not errors, errors
    reader = Consumer({"bootstrap.servers": address, "group.id": name})
    assert sum(p.offset for p in reader.committed([TopicPartition(topic, p) for p in range(4)], 10)) == 200
    reader.close()


@check("a group of two members, and commits")
def _():
    group(prefix + "group", prefix + "g", **{"session.timeout.ms": 10000})


@check("a group of two members, cooperative")
def _():
    settle(admin.create_topics([NewTopic(prefix + "cooperative", 4, 1)]))
    group(prefix + "cooperative", prefix + "c", **{"session.timeout.ms": 10000, "partition.assignment.strategy": "cooperative-sticky"})


@check("a group of two members, KIP-848")
def _():
    group(prefix + "group848", prefix + "g848", **{"group.protocol": "consumer"})


@check("groups are listed, described and deleted")
def _():
    name = prefix + "g"
    assert name in [g.group_id for g in admin.list_consumer_groups().result(10).valid]
    assert len(admin.describe_consumer_groups([name])[name].result(10).members) == 0
    admin.delete_consumer_groups([name])[name].result(10)
    assert name not in [g.group_id for g in admin.list_consumer_groups().result(10).valid]


@check("topics are altered and deleted")
def _():
    topic = prefix + "gone"
    settle(admin.create_partitions([NewPartitions(topic, 5)]))
    until("5 partitions", lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 5)
    entry = ConfigEntry("retention.ms", "7777", incremental_operation=AlterConfigOpType.SET)
    settle(admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])]))
    resource = ConfigResource(ResourceType.TOPIC, topic)
    until("retention", lambda: admin.describe_configs([resource])[resource].result(10)["retention.ms"].value == "7777")
    settle(admin.delete_records([TopicPartition(prefix + "gzip", 0, 50)]))
    settle(admin.delete_topics([topic]))
    until("deletion", lambda: topic not in admin.list_topics(timeout=10).topics)


end()
