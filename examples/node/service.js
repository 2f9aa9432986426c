// A service behind the route `POST /orders`. docs/wire.md says what its records have.
import { Consumer, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'

const topic = process.env.TOPIC ?? 'orders'
const client = { clientId: topic, bootstrapBrokers: (process.env.KAFKA_BROKERS ?? 'localhost:9092').split(',') }
const producer = new Producer({ ...client, serializers: stringSerializers, acks: -1 })
const consumer = new Consumer({ ...client, groupId: topic, deserializers: stringDeserializers })

function parse(text) {
  try {
    return JSON.parse(text) ?? {}
  } catch {
    return {}
  }
}

/** Headers and body of the answer to an order. */
function place(request) {
  const order = parse(request.value)
  if (!(order.quantity >= 1)) {
    return [{ ':status': '422' }, { error: 'an order has a sku, and a quantity of at least 1' }]
  }
  const id = `${request.partition}-${request.offset}` // the same if the request is repeated
  return [{ ':status': '201', location: `/orders/${id}` }, { id, sku: order.sku }]
}

async function answer(request) {
  const replyTopic = request.headers.get('kafka_replyTopic')
  if (!replyTopic) return // no caller waits
  const [headers, body] = place(request)
  headers['kafka_correlationId'] = request.headers.get('kafka_correlationId')
  const partition = Number(request.headers.get('pingpong_replyPartition') ?? 0)
  await producer.send({ messages: [{ topic: replyTopic, partition, headers, value: JSON.stringify(body) }] })
}

const requests = await consumer.consume({ topics: [topic], mode: 'committed', fallbackMode: 'latest', autocommit: false })
process.once('SIGTERM', () => requests.close())
for await (const request of requests) {
  try {
    await answer(request)
  } catch (error) {
    console.error(`the order at offset ${request.offset} failed:`, error)
  }
  await request.commit() // at least once: the position follows the reply
}
await consumer.close()
await producer.close()
