// Gateway and worker on sarama and gin, for comparison: GET /ping writes a record; the reply with the same key is the
// response. Our gateway and worker replace a pair of this design.
//
// As in that pair, gateway and worker wait for the acknowledgement of each record: the gateway in the HTTP handler, the
// worker before its next request. sarama has its defaults. Unlike in that pair, a request is registered before its record
// is sent, and a late reply blocks nothing; otherwise requests would hang. Records have no headers. Without an argument the
// program is the gateway, and starts a worker, which ends with the process group.
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

// Requests in flight, by the key of their record.
type pending struct {
	sync.Mutex
	replies map[string]chan []byte
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		worker()
	} else {
		gateway()
	}
}

func gateway() {
	child := exec.Command(os.Args[0], "worker")
	child.Stderr = os.Stderr
	check(child.Start())

	topic := os.Getenv("PING_TOPIC")
	replies, producer := connect(os.Getenv("PONG_TOPIC"))
	inFlight := &pending{replies: make(map[string]chan []byte)}
	go func() {
		for record := range replies {
			inFlight.complete(record)
		}
	}()

	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.GET("/ping", func(c *gin.Context) {
		id := uuid.NewString()
		value, _ := json.Marshal(ping{id, "Ping", "Pong"})
		reply := inFlight.add(id)
		defer inFlight.remove(id)
		if send(producer, topic, id, value) != nil {
			c.JSON(http.StatusInternalServerError, gin.H{"error": "failed to send message to Kafka"})
			return
		}
		timeout := time.NewTimer(10 * time.Second)
		defer timeout.Stop()
		select {
		case value := <-reply:
			c.JSON(http.StatusOK, gin.H{"message": string(value)})
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
		var body ping
		if json.Unmarshal(request.Value, &body) != nil {
			continue
		}
		value := fmt.Appendf(nil, "%s %s ( %s ) ", body.Name, body.Value, body.ID)
		if err := send(producer, topic, body.ID, value); err != nil {
			log.Print(err)
		}
	}
}

func (p *pending) add(id string) <-chan []byte {
	reply := make(chan []byte, 1)
	p.Lock()
	p.replies[id] = reply
	p.Unlock()
	return reply
}

func (p *pending) remove(id string) {
	p.Lock()
	delete(p.replies, id)
	p.Unlock()
}

func (p *pending) complete(record *sarama.ConsumerMessage) {
	p.Lock()
	defer p.Unlock()
	if reply, ok := p.replies[string(record.Key)]; ok {
		delete(p.replies, string(record.Key))
		reply <- record.Value
	}
}

// Reads partition 0 of a topic from its latest offset, and writes to partition 0.
func connect(topic string) (<-chan *sarama.ConsumerMessage, sarama.SyncProducer) {
	brokers := strings.Split(os.Getenv("KAFKA_BROKERS"), ",")
	config := sarama.NewConfig()
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	// Producer and consumer have connections of their own: on a shared one a produce request waits for the fetch before it.
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
