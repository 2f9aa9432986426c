// A service behind the route `POST /orders` with `dialect = "nest"`. docs/wire.md says what its records have.
import 'reflect-metadata'
import { Controller, Module } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { Ctx, KafkaContext, MessagePattern, Payload, Transport, type MicroserviceOptions } from '@nestjs/microservices'

const topic = process.env.TOPIC ?? 'orders'
const brokers = (process.env.KAFKA_BROKERS ?? 'localhost:9092').split(',')

interface Order {
  sku: string
  quantity: number
}

@Controller()
class Orders {
  /** NestJS writes the reply where the request says, with its correlation id. Without a caller there is none. */
  @MessagePattern(topic)
  place(@Payload() order: Partial<Order> | null, @Ctx() context: KafkaContext) {
    if (!(Number(order?.quantity) >= 1)) {
      return { headers: { ':status': '422' }, value: { error: 'an order has a sku, and a quantity of at least 1' } }
    }
    const id = `${context.getPartition()}-${context.getMessage().offset}` // the same if the request is repeated
    return { headers: { ':status': '201', location: `/orders/${id}` }, value: { id, sku: order?.sku } }
  }
}

@Module({ controllers: [Orders] })
class Service {}

const service = await NestFactory.createMicroservice<MicroserviceOptions>(Service, {
  transport: Transport.KAFKA,
  options: { client: { brokers }, consumer: { groupId: topic } },
})
service.enableShutdownHooks() // SIGTERM leaves the group
await service.listen()
