"""A Kafka producer as every part of ours wants it: all replicas, no duplicates of its own, a bounded wait.

In: settings and the name that the broker knows the client by. Out: a connected aiokafka producer. Knows no topic and no
message. Invariants: what it acknowledges is on every replica in sync (`acks=all`); one that could not connect is
closed; a batch is given up after `publish_timeout_s`.
"""

from aiokafka import AIOKafkaProducer

from workers.settings import Settings, kafka_security


async def open_producer(settings: Settings, client_id: str) -> AIOKafkaProducer:
    """A producer with a connection; whoever calls stops it. Raises KafkaError."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.broker_list,
        client_id=client_id,
        acks="all",
        enable_idempotence=settings.producer_idempotence,
        max_batch_size=settings.producer_batch_bytes,
        max_request_size=settings.max_message_bytes * 2,
        request_timeout_ms=int(settings.publish_timeout_s * 1000),
        **kafka_security(settings),
    )
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer
