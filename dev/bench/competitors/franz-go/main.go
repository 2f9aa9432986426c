// The same pair on franz-go, to compare with: GET /ping becomes a record, and the record with its key the answer.
//
// A caller waits before its record is sent. franz-go has its defaults but for no linger and no compression, as the others
// have none. No record has headers. Without an argument it is the gateway and starts a worker beside it, which is to be
// killed with its process group.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type ping struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

type answer struct {
	Message string `json:"message"`
}

type failure struct {
	Error string `json:"error"`
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
	client := connect(os.Getenv("PONG_TOPIC"))
	waiting := &pending{callers: make(map[string]chan []byte)}
	go read(client, waiting.answer)

	http.HandleFunc("GET /ping", func(w http.ResponseWriter, r *http.Request) {
		id := uuid.NewString()
		value, _ := json.Marshal(ping{id, "Ping", "Pong"})
		answered := waiting.add(id)
		defer waiting.remove(id)
		failed := make(chan struct{}, 1)
		client.Produce(r.Context(), &kgo.Record{Topic: topic, Key: []byte(id), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed <- struct{}{}
			}
		})
		timeout := time.NewTimer(10 * time.Second)
		defer timeout.Stop()
		select {
		case reply := <-answered:
			respond(w, http.StatusOK, answer{string(reply)})
		case <-failed:
			respond(w, http.StatusInternalServerError, failure{"failed to send message to Kafka"})
		case <-timeout.C:
			respond(w, http.StatusInternalServerError, failure{"timeout waiting for response"})
		}
	})
	check(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

func worker() {
	topic := os.Getenv("PONG_TOPIC")
	client := connect(os.Getenv("PING_TOPIC"))
	read(client, func(requests []*kgo.Record) {
		for _, request := range requests {
			var it ping
			if json.Unmarshal(request.Value, &it) != nil {
				continue
			}
			value := fmt.Appendf(nil, "%s %s ( %s ) ", it.Name, it.Value, it.ID)
			client.Produce(context.Background(), &kgo.Record{Topic: topic, Key: []byte(it.ID), Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					log.Print(err)
				}
			})
		}
	})
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

func (p *pending) answer(replies []*kgo.Record) {
	p.Lock()
	defer p.Unlock()
	for _, reply := range replies {
		if answered, ok := p.callers[string(reply.Key)]; ok {
			delete(p.callers, string(reply.Key))
			answered <- reply.Value
		}
	}
}

// Reads partition 0 of a topic from now on, and writes to partition 0.
func connect(topic string) *kgo.Client {
	brokers := kgo.SeedBrokers(os.Getenv("KAFKA_BROKERS"))
	looking, err := kgo.NewClient(brokers)
	check(err)
	defer looking.Close()
	ends, err := kadm.NewClient(looking).ListEndOffsets(context.Background(), topic)
	check(err)
	end, ok := ends.Lookup(topic, 0)
	if !ok || end.Err != nil {
		log.Fatal(topic, " has no partition 0: ", end.Err)
	}
	client, err := kgo.NewClient(
		brokers,
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(end.Offset)}}),
	)
	check(err)
	return client
}

func read(client *kgo.Client, handOn func([]*kgo.Record)) {
	for {
		fetches := client.PollFetches(context.Background())
		fetches.EachError(func(_ string, _ int32, err error) { log.Print(err) })
		handOn(fetches.Records())
	}
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	text, _ := json.Marshal(body)
	w.Write(text)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
