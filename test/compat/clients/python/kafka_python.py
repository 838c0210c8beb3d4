"""kafka-python against the broker at argv[1]."""
import sys
import threading
import time

from checks import check, end, until
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic

address = sys.argv[1]
prefix = "kafka-python-"
admin = KafkaAdminClient(bootstrap_servers=address)
codecs = [None, "gzip", "snappy", "lz4", "zstd"]
then = int(time.time() * 1000) - 3_600_000


def consumer(**settings):
    return KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=15000, **settings)


def read(topic, count, partition=0):
    reader = consumer(group_id=None)
    reader.assign([TopicPartition(topic, partition)])
    reader.seek_to_beginning()
    got = []
    for record in reader:
        got.append(record)
        if len(got) == count:
            break
    reader.close()
    assert len(got) == count, f"{len(got)} of {count} records"
    return got


@check("topics are created, listed and described")
def _():
    admin.create_topics([NewTopic(prefix + (c or "none"), 1, 1) for c in codecs] + [
        NewTopic(prefix + "group", 4, 1), NewTopic(prefix + "times", 1, 1), NewTopic(prefix + "gone", 2, 1),
        NewTopic(prefix + "large", 1, 1, topic_configs={"max.message.bytes": "2000000"})])
    until("topics", lambda: prefix + "large" in admin.list_topics())
    assert len(admin.describe_topics([prefix + "group"])[0]["partitions"]) == 4


@check("every codec, with keys, nulls, headers and timestamps")
def _():
    for codec in codecs:
        topic = prefix + (codec or "none")
        producer = KafkaProducer(bootstrap_servers=address, compression_type=codec, linger_ms=5)
        sent = [producer.send(topic, key=b"k%d" % i, value=None if i % 10 == 0 else b"value %d" % i,
                              headers=[("h", b"%d" % i), ("empty", b"")], timestamp_ms=then + i, partition=0) for i in range(100)]
        offsets = [s.get(15).offset for s in sent]
        assert offsets == list(range(100)), offsets[:5]
        producer.close()
        for i, record in enumerate(read(topic, 100)):
            assert record.key == b"k%d" % i and record.offset == i and record.timestamp == then + i, record
            assert record.value == (None if i % 10 == 0 else b"value %d" % i), record
            assert list(record.headers) == [("h", b"%d" % i), ("empty", b"")], record


@check("acknowledgements 0, 1 and all; idempotent and not")
def _():
    topic = prefix + "times"
    for acks, idempotent in ((0, False), (1, False), ("all", False), ("all", True)):
        producer = KafkaProducer(bootstrap_servers=address, acks=acks, enable_idempotence=idempotent)
        for i in range(10):
            producer.send(topic, b"x", timestamp_ms=then + 1000 * i)
        producer.flush()
        producer.close()
    read(topic, 40)


@check("large messages")
def _():
    producer = KafkaProducer(bootstrap_servers=address, max_request_size=3_000_000)
    producer.send(prefix + "large", b"x" * 1_000_000).get(15)
    producer.send(prefix + "large", b"y" * 1_900_000).get(15)
    try:
        producer.send(prefix + "large", b"z" * 2_100_000).get(15)
        raise AssertionError("too large a message was taken")
    except Exception as refused:
        assert "MessageSizeTooLarge" in type(refused).__name__ or "TooLarge" in str(refused), refused
    assert [len(r.value) for r in read(prefix + "large", 2)] == [1_000_000, 1_900_000]
    producer.close()


@check("look-up by time")
def _():
    reader = consumer(group_id=None)
    at = TopicPartition(prefix + "gzip", 0)
    found = reader.offsets_for_times({at: then + 42})
    assert found[at].offset == 42 and found[at].timestamp == then + 42, found
    assert reader.offsets_for_times({at: then + 100_000})[at] is None
    assert reader.end_offsets([at])[at] == 100 and reader.beginning_offsets([at])[at] == 0
    reader.close()


@check("a group of two members, commits and coming back")
def _():
    topic, group = prefix + "group", prefix + "g"
    producer = KafkaProducer(bootstrap_servers=address)
    for i in range(200):
        producer.send(topic, b"%d" % i, partition=i % 4)
    producer.flush()
    seen, owned, stop, committed = [], {}, threading.Event(), threading.Barrier(2)

    # A poll that gives up while its member joins can make kafka-python 3.0.12 forget the assignment that comes then: the
    # member neither reads nor sends heartbeats from there on. So each waits for longer than the other takes to notice.
    def member(name):
        reader = KafkaConsumer(topic, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest",
                               enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=500)
        while not stop.is_set() or any(reader.position(p) < 50 for p in reader.assignment()):
            for records in reader.poll(3000).values():
                seen.extend(r.value for r in records)
            owned[name] = len(reader.assignment())
        reader.commit()
        committed.wait(30)  # who leaves earlier has the other one rebalance
        reader.close()

    threads = [threading.Thread(target=member, args=(n,)) for n in "ab"]
    for t in threads:
        t.start()
    try:
        until("both own two", lambda: owned.get("a") == 2 and owned.get("b") == 2, 30)
        until("all is read", lambda: len(set(seen)) == 200, 30)
    finally:
        stop.set()
        for t in threads:
            t.join()
    reader = KafkaConsumer(bootstrap_servers=address, group_id=group)
    assert sum(reader.committed(TopicPartition(topic, p)) for p in range(4)) == 200
    reader.close()
    producer.close()


@check("topics are altered and deleted")
def _():
    topic = prefix + "gone"
    admin.create_partitions({topic: NewPartitions(5)})
    until("5 partitions", lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 5)
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "7777"})
    admin.alter_configs([resource])
    until("retention", lambda: "7777" in str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])))
    admin.delete_topics([topic])
    until("deletion", lambda: topic not in admin.list_topics())


admin.close()
end()
