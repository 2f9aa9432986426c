// A service behind the route `POST /orders`. docs/wire.md says what its records have.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
)

func answer(request *kgo.Record) *kgo.Record {
	names := map[string]string{}
	for _, header := range request.Headers {
		names[header.Key] = string(header.Value)
	}
	partition, _ := strconv.Atoi(names["pingpong_replyPartition"]) // 0 if it is absent
	reply := &kgo.Record{Topic: names["kafka_replyTopic"], Partition: int32(partition)}
	add := func(name, value string) {
		reply.Headers = append(reply.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	add("kafka_correlationId", names["kafka_correlationId"])
	var order map[string]any
	status, body := "422", map[string]any{"error": "an order has a sku, and a quantity of at least 1"}
	_ = json.Unmarshal(request.Value, &order) // nil if it is not an object
	if quantity, _ := order["quantity"].(float64); quantity >= 1 {
		id := fmt.Sprintf("%d-%d", request.Partition, request.Offset) // the same if the request is repeated
		status, body = "201", map[string]any{"id": id, "sku": order["sku"]}
		add("location", "/orders/"+id)
	}
	add(":status", status)
	reply.Value, _ = json.Marshal(body)
	return reply
}

func main() {
	brokers, topic := cmp.Or(os.Getenv("KAFKA_BROKERS"), "localhost:9092"), cmp.Or(os.Getenv("TOPIC"), "orders")
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtEnd()))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(request *kgo.Record) {
			if reply := answer(request); reply.Topic != "" { // else no caller waits
				client.Produce(context.Background(), reply, nil)
			}
		})
		client.Flush(context.Background()) // at least once: the next poll commits what this one had
	}
}
