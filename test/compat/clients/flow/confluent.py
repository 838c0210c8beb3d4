"""confluent-kafka (librdkafka); see README.md. Nothing but the defaults."""
import sys
import threading

from confluent_kafka import Consumer, Producer

mode, bootstrap, topic = sys.argv[1:4]
out = threading.Lock()


def say(text):
    with out:
        print(text, flush=True)


def told(error, message):
    value = message.value().decode()
    say(f"failed {value} {error}" if error else f"ok {value}")


if mode == "produce":
    producer = Producer({"bootstrap.servers": bootstrap})
    for line in sys.stdin:
        producer.produce(topic, line.strip().encode(), on_delivery=told)
        producer.poll(0)
    left = producer.flush(100)
    sys.exit(1 if left else 0)

settings = {"bootstrap.servers": bootstrap, "group.id": sys.argv[4], "auto.offset.reset": "earliest"}
if len(sys.argv) > 5:
    settings["group.protocol"] = sys.argv[5]
consumer = Consumer(settings)
consumer.subscribe([topic])
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.is_set():
    message = consumer.poll(0.2)
    if message is None:
        continue
    if message.error():
        print(f"error {message.error()}", file=sys.stderr, flush=True)
        continue
    say("got " + message.value().decode())
consumer.close()
