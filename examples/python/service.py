"""A service behind the route `POST /orders`. docs/wire.md says what its records have."""

import json
import logging
import os
import signal
import sys

from confluent_kafka import Consumer, Producer

brokers = os.environ.get("KAFKA_BROKERS", "localhost:9092")
topic = os.environ.get("TOPIC", "orders")


def place(request):
    """Status, headers and body of the answer to an order."""
    try:
        order = json.loads(request.value())
        sku, quantity = order["sku"], int(order["quantity"])
    except (KeyError, TypeError, ValueError):
        quantity = 0
    if quantity < 1:
        return "422", [], {"error": "an order has a sku, and a quantity of at least 1"}
    order_id = f"{request.partition()}-{request.offset()}"  # the same if the request is repeated
    return "201", [("location", f"/orders/{order_id}")], {"id": order_id, "sku": sku}


def answer(request):
    names = dict(request.headers() or [])
    if "kafka_replyTopic" not in names:
        return  # no caller waits
    try:
        status, headers, body = place(request)
    except Exception:
        logging.exception("the order at offset %d failed", request.offset())
        status, headers, body = "500", [], {"error": "the service failed"}
    headers = [("kafka_correlationId", names["kafka_correlationId"]), (":status", status), *headers]
    partition = int(names.get("pingpong_replyPartition", 0))
    producer.produce(names["kafka_replyTopic"].decode(), json.dumps(body), headers=headers, partition=partition)
    producer.flush()


signal.signal(signal.SIGTERM, lambda *_: sys.exit())
producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
consumer = Consumer({"bootstrap.servers": brokers, "group.id": topic, "enable.auto.offset.store": False})
consumer.subscribe([topic])
try:
    while True:
        request = consumer.poll(1)
        if request is None:
            continue
        if request.error():
            logging.warning("%s", request.error())
        else:
            answer(request)
            consumer.store_offsets(request)  # at least once: the position follows the reply
finally:
    consumer.close()
