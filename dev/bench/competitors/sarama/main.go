// The pair that this project takes the place of, on sarama and gin, to compare with: GET /ping becomes a record, and the
// record with its key the answer.
//
// It is written as that was: gateway and worker wait until Kafka has acknowledged what they send, the gateway in the caller's
// handler, the worker before it looks at its next request. sarama has its defaults. But a caller waits before its record is
// sent, and a late reply blocks nobody: with those bugs callers hang. No record has headers. Without an argument it is the
// gateway and starts a worker beside it, which is to be killed with its process group.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

type ping struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Callers that wait, by the key of their record.
type pending struct {
	sync.Mutex
	callers map[string]chan []byte
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		worker()
	} else {
		gateway()
	}
}

func gateway() {
	beside := exec.Command(os.Args[0], "worker")
	beside.Stderr = os.Stderr
	check(beside.Start())

	topic := os.Getenv("PING_TOPIC")
	replies, producer := connect(os.Getenv("PONG_TOPIC"))
	waiting := &pending{callers: make(map[string]chan []byte)}
	go func() {
		for reply := range replies {
			waiting.answer(reply)
		}
	}()

	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.GET("/ping", func(c *gin.Context) {
		id := uuid.NewString()
		value, _ := json.Marshal(ping{id, "Ping", "Pong"})
		answered := waiting.add(id)
		defer waiting.remove(id)
		if send(producer, topic, id, value) != nil {
			c.JSON(http.StatusInternalServerError, gin.H{"error": "failed to send message to Kafka"})
			return
		}
		timeout := time.NewTimer(10 * time.Second)
		defer timeout.Stop()
		select {
		case reply := <-answered:
			c.JSON(http.StatusOK, gin.H{"message": string(reply)})
		case <-timeout.C:
			c.JSON(http.StatusInternalServerError, gin.H{"error": "timeout waiting for response"})
		}
	})
	check(router.Run("127.0.0.1:" + os.Getenv("PORT")))
}

func worker() {
	topic := os.Getenv("PONG_TOPIC")
	requests, producer := connect(os.Getenv("PING_TOPIC"))
	for request := range requests {
		var it ping
		if json.Unmarshal(request.Value, &it) != nil {
			continue
		}
		value := fmt.Appendf(nil, "%s %s ( %s ) ", it.Name, it.Value, it.ID)
		if err := send(producer, topic, it.ID, value); err != nil {
			log.Print(err)
		}
	}
}

func (p *pending) add(id string) <-chan []byte {
	answered := make(chan []byte, 1)
	p.Lock()
	p.callers[id] = answered
	p.Unlock()
	return answered
}

func (p *pending) remove(id string) {
	p.Lock()
	delete(p.callers, id)
	p.Unlock()
}

func (p *pending) answer(reply *sarama.ConsumerMessage) {
	p.Lock()
	defer p.Unlock()
	if answered, ok := p.callers[string(reply.Key)]; ok {
		delete(p.callers, string(reply.Key))
		answered <- reply.Value
	}
}

// Reads partition 0 of a topic from now on, and writes to partition 0.
func connect(topic string) (<-chan *sarama.ConsumerMessage, sarama.SyncProducer) {
	brokers := strings.Split(os.Getenv("KAFKA_BROKERS"), ",")
	config := sarama.NewConfig()
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	// Each with connections of its own: on one, what is sent would wait for the fetch before it.
	producer, err := sarama.NewSyncProducer(brokers, config)
	check(err)
	consumer, err := sarama.NewConsumer(brokers, config)
	check(err)
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetNewest)
	check(err)
	return partition.Messages(), producer
}

func send(producer sarama.SyncProducer, topic, key string, value []byte) error {
	_, _, err := producer.SendMessage(&sarama.ProducerMessage{
		Topic: topic,
		Key:   sarama.StringEncoder(key),
		Value: sarama.ByteEncoder(value),
	})
	return err
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
