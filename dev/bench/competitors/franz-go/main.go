// Gateway and worker on franz-go, for comparison: GET /ping writes a record; the reply with the same key is the response.
//
// A request is registered before its record is sent. franz-go has its defaults except linger and compression, which are
// off as in the other programs. Records have no headers. Without an argument the program is the gateway, and starts a
// worker, which ends with the process group.
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

type responseBody struct {
	Message string `json:"message"`
}

type errorBody struct {
	Error string `json:"error"`
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
	client := connect(os.Getenv("PONG_TOPIC"))
	inFlight := &pending{replies: make(map[string]chan []byte)}
	go read(client, inFlight.complete)

	http.HandleFunc("GET /ping", func(w http.ResponseWriter, r *http.Request) {
		id := uuid.NewString()
		value, _ := json.Marshal(ping{id, "Ping", "Pong"})
		reply := inFlight.add(id)
		defer inFlight.remove(id)
		failed := make(chan struct{}, 1)
		client.Produce(r.Context(), &kgo.Record{Topic: topic, Key: []byte(id), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed <- struct{}{}
			}
		})
		timeout := time.NewTimer(10 * time.Second)
		defer timeout.Stop()
		select {
		case value := <-reply:
			respond(w, http.StatusOK, responseBody{string(value)})
		case <-failed:
			respond(w, http.StatusInternalServerError, errorBody{"failed to send message to Kafka"})
		case <-timeout.C:
			respond(w, http.StatusInternalServerError, errorBody{"timeout waiting for response"})
		}
	})
	check(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

func worker() {
	topic := os.Getenv("PONG_TOPIC")
	client := connect(os.Getenv("PING_TOPIC"))
	read(client, func(requests []*kgo.Record) {
		for _, request := range requests {
			var body ping
			if json.Unmarshal(request.Value, &body) != nil {
				continue
			}
			value := fmt.Appendf(nil, "%s %s ( %s ) ", body.Name, body.Value, body.ID)
			client.Produce(context.Background(), &kgo.Record{Topic: topic, Key: []byte(body.ID), Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					log.Print(err)
				}
			})
		}
	})
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

func (p *pending) complete(records []*kgo.Record) {
	p.Lock()
	defer p.Unlock()
	for _, record := range records {
		if reply, ok := p.replies[string(record.Key)]; ok {
			delete(p.replies, string(record.Key))
			reply <- record.Value
		}
	}
}

// Reads partition 0 of a topic from its latest offset, and writes to partition 0.
func connect(topic string) *kgo.Client {
	brokers := kgo.SeedBrokers(os.Getenv("KAFKA_BROKERS"))
	lookup, err := kgo.NewClient(brokers)
	check(err)
	defer lookup.Close()
	ends, err := kadm.NewClient(lookup).ListEndOffsets(context.Background(), topic)
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

func read(client *kgo.Client, handle func([]*kgo.Record)) {
	for {
		fetches := client.PollFetches(context.Background())
		fetches.EachError(func(_ string, _ int32, err error) { log.Print(err) })
		handle(fetches.Records())
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
