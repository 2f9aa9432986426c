import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own producer, driven line by line: BOOTSTRAP [KEY=VALUE...], the latter settings of the producers
 * (compression.type=zstd, linger.ms=50, transaction.timeout.ms=5000, ...).
 *
 * <p>The fields of a line are separated by tabs. PRODUCER is a transactional id, or `-` for the producer without
 * transactions. Several transactions may be open at once. Each line is answered by one line on stdout when it is done.
 *
 * <pre>
 * begin PRODUCER                                          answers `ok`
 * send  PRODUCER TOPIC PARTITION KEY VALUE [HEADER...]    waits for the acknowledgement; answers `ok OFFSET`
 * queue PRODUCER TOPIC PARTITION KEY VALUE [HEADER...]    leaves the record to `flush`; answers `ok`
 * flush PRODUCER                                          answers `ok OFFSET...` of the queued records
 * commit PRODUCER, abort PRODUCER                         answers `ok` when the marker is requested
 * </pre>
 *
 * HEADER is NAME=VALUE, or NAME alone for a null value; names may repeat. KEY and VALUE may be `null`. Records queued
 * within linger.ms share a batch. A failure ends the process: exit code 1, the reason on stderr. At the end of stdin the
 * process halts as if it had crashed: it abandons open transactions, which the broker aborts after
 * transaction.timeout.ms.
 */
class Produce {
    private static final Properties SETTINGS = new Properties();
    private static final Map<String, KafkaProducer<String, String>> PRODUCERS = new HashMap<>();
    private static final Map<String, List<Future<RecordMetadata>>> QUEUED = new HashMap<>();

    public static void main(String[] args) throws Exception {
        SETTINGS.put("bootstrap.servers", args[0]);
        SETTINGS.put("key.serializer", StringSerializer.class.getName());
        SETTINGS.put("value.serializer", StringSerializer.class.getName());
        for (var setting : List.of(args).subList(1, args.length)) {
            var pair = setting.split("=", 2);
            SETTINGS.put(pair[0], pair[1]);
        }
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (var line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                System.out.println(("ok " + run(line.split("\t", -1))).trim());
            } catch (ExecutionException e) {
                fail(line, e.getCause());
            } catch (RuntimeException e) {
                fail(line, e);
            }
        }
        // Closing a producer would abort its transaction.
        Runtime.getRuntime().halt(0);
    }

    private static void fail(String line, Throwable cause) {
        System.err.println("kafka: " + line + ": " + cause);
        Runtime.getRuntime().halt(1);
    }

    private static String run(String[] fields) throws Exception {
        var producer = producer(fields[1]);
        switch (fields[0]) {
            case "begin" -> producer.beginTransaction();
            case "send" -> {
                var acknowledged = producer.send(record(fields));
                producer.flush();
                return String.valueOf(acknowledged.get().offset());
            }
            case "queue" -> QUEUED.computeIfAbsent(fields[1], id -> new ArrayList<>()).add(producer.send(record(fields)));
            case "flush" -> {
                producer.flush();
                return offsets(QUEUED.remove(fields[1]));
            }
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            default -> throw new IllegalArgumentException("not a command of Produce.java");
        }
        return "";
    }

    private static KafkaProducer<String, String> producer(String id) {
        return PRODUCERS.computeIfAbsent(id, key -> {
            var settings = new Properties();
            settings.putAll(SETTINGS);
            if (!id.equals("-")) settings.put("transactional.id", id);
            var producer = new KafkaProducer<String, String>(settings);
            if (!id.equals("-")) producer.initTransactions();
            return producer;
        });
    }

    private static ProducerRecord<String, String> record(String[] fields) {
        var partition = Integer.parseInt(fields[3]);
        var record = new ProducerRecord<>(fields[2], partition, text(fields[4]), text(fields[5]));
        for (var header : Arrays.copyOfRange(fields, 6, fields.length)) {
            var pair = header.split("=", 2);
            record.headers().add(pair[0], pair.length == 1 ? null : pair[1].getBytes());
        }
        return record;
    }

    private static String text(String field) {
        return field.equals("null") ? null : field;
    }

    private static String offsets(List<Future<RecordMetadata>> queued) throws Exception {
        var offsets = new ArrayList<String>();
        for (var acknowledged : queued == null ? List.<Future<RecordMetadata>>of() : queued) {
            offsets.add(String.valueOf(acknowledged.get().offset()));
        }
        return String.join(" ", offsets);
    }
}
