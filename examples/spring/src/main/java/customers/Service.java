package customers;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.messaging.Message;
import org.springframework.messaging.handler.annotation.Header;
import org.springframework.messaging.handler.annotation.SendTo;
import org.springframework.messaging.support.MessageBuilder;

/**
 * A service behind the route {@code GET /customers/{id}} with {@code dialect = "spring"}. docs/wire.md says what its records
 * have.
 */
@SpringBootApplication
public class Service {
    /** Spring writes the reply where the request says, with its correlation id. */
    @KafkaListener(id = "${TOPIC:customers}", topics = "${TOPIC:customers}")
    @SendTo
    Message<String> customer(@Header(":param.id") String id) {
        if (!id.matches("[0-9]+")) {
            return reply("404", "{\"error\":\"no such customer\"}").build();
        }
        String etag = "\"" + id + "\"";
        return reply("200", "{\"id\":" + id + "}").setHeader("etag", etag.getBytes()).build();
    }

    /** Spring sends headers that are bytes as they are, and text only if Jackson is there. */
    static MessageBuilder<String> reply(String status, String json) {
        return MessageBuilder.withPayload(json).setHeader(":status", status.getBytes());
    }

    public static void main(String[] args) {
        SpringApplication.run(Service.class, args);
    }
}
