"""kafka-python 2.0.2, which many still have, against the broker at argv[1]."""
import sys
import time

from checks import check, end
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic

address = sys.argv[1]
prefix = "kafka-python-old-"
then = int(time.time() * 1000) - 3_600_000
codecs = [None, "gzip", "snappy", "lz4", "zstd"]


@check("the broker's version is found out, and topics are made")  # trap 3
def _():
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic(prefix + (c or "none"), 2, 1) for c in codecs])
    assert prefix + "zstd" in admin.list_topics()
    admin.create_partitions({prefix + "none": NewPartitions(3)})
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, prefix + "none", configs={"retention.ms": "7777"})])
    assert "7777" in str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, prefix + "none")]))
    assert admin.describe_cluster()["brokers"]
    admin.close()


@check("every codec, with keys, headers and timestamps")
def _():
    for codec in codecs:
        topic = prefix + (codec or "none")
        producer = KafkaProducer(bootstrap_servers=address, compression_type=codec, acks="all")
        sent = [producer.send(topic, key=b"k%d" % i, value=b"value %d" % i, headers=[("h", b"%d" % i)], timestamp_ms=then + i, partition=0)
                for i in range(100)]
        assert [s.get(15).offset for s in sent] == list(range(100))
        producer.close()
        reader = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=15000)
        reader.assign([TopicPartition(topic, 0)])
        for i in range(100):
            record = next(reader)
            assert (record.offset, record.key, record.value, record.timestamp) == (i, b"k%d" % i, b"value %d" % i, then + i), record
        assert reader.offsets_for_times({TopicPartition(topic, 0): then + 42})[TopicPartition(topic, 0)].offset == 42
        reader.close()


@check("a group commits, and goes on where it was")
def _():
    topic = prefix + "lz4"
    for first in (0, 50):
        reader = KafkaConsumer(topic, bootstrap_servers=address, group_id=prefix + "g", auto_offset_reset="earliest",
                               enable_auto_commit=False, consumer_timeout_ms=20000, max_poll_records=10)
        got = [next(reader).offset for _ in range(50)]
        assert got == list(range(first, first + 50)), got
        reader.commit()
        reader.close()
    admin = KafkaAdminClient(bootstrap_servers=address)
    assert (prefix + "g", "consumer") in admin.list_consumer_groups()
    offsets = admin.list_consumer_group_offsets(prefix + "g")
    assert offsets[TopicPartition(topic, 0)].offset == 100, offsets
    assert admin.describe_consumer_groups([prefix + "g"])[0].state == "Empty"
    admin.delete_topics([prefix + (c or "none") for c in codecs])
    admin.close()


end()
