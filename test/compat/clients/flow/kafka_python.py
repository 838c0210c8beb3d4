"""kafka-python; see README.md. acks=all; the rest are the defaults."""
import sys
import threading

from kafka import KafkaConsumer, KafkaProducer

mode, bootstrap, topic = sys.argv[1:4]
bootstrap = bootstrap.split(",")
out = threading.Lock()


def say(text):
    with out:
        print(text, flush=True)


if mode == "produce":
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    for line in sys.stdin:
        value = line.strip()
        sent = producer.send(topic, value.encode())
        sent.add_callback(lambda _, value=value: say("ok " + value))
        sent.add_errback(lambda error, value=value: say(f"failed {value} {error}"))
    producer.flush(100)
    producer.close(20)
    sys.exit(0)

consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=sys.argv[4], auto_offset_reset="earliest")
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.is_set():
    for records in consumer.poll(200).values():
        for record in records:
            say("got " + record.value.decode())
consumer.close()
