import static org.apache.kafka.clients.admin.ScramMechanism.SCRAM_SHA_256;
import static org.apache.kafka.clients.admin.ScramMechanism.SCRAM_SHA_512;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeFeaturesOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * Changes topics, users, rights, quotas and certificates of a cluster: BOOTSTRAP SECONDS [COMMAND...].
 *
 * <p>Without COMMAND, each line of stdin is one; the first that fails ends the program. When it returns, the commands are in
 * effect on all live brokers.
 *
 * <pre>
 * topic NAME PARTITIONS [KEY=VALUE...]           creates a topic
 * config NAME KEY=VALUE...                       of a topic; an empty VALUE restores the default
 * password USER PASSWORD                         for SCRAM-SHA-256 and SCRAM-SHA-512
 * acl add|remove USER OPERATION TYPE NAME        TYPE: topic, group, cluster, ...; a NAME ending in * is a prefix (quote it)
 * quota user|client-id NAME KEY=VALUE...         KEY: producer_byte_rate, ...; an empty VALUE removes the quota
 * certificate FILE                               of the listeners with TLS, for connections from now on
 * </pre>
 */
class Administer {
    private final Admin admin;

    private Administer(Admin admin) {
        this.admin = admin;
    }

    public static void main(String[] args) throws Exception {
        var timeout = Long.parseLong(args[1]) * 1000;
        var settings = Map.<String, Object>of(
                "bootstrap.servers", args[0],
                // A node that is paused accepts connections and does not answer.
                "request.timeout.ms", (int) Math.min(timeout, 10_000),
                "default.api.timeout.ms", (int) timeout);
        var command = "";
        try (var admin = Admin.create(settings)) {
            for (var words : commands(List.of(args).subList(2, args.length))) {
                command = String.join(" ", words);
                new Administer(admin).run(words);
            }
            command = "waiting for the brokers";
            new Administer(admin).await(timeout);
        } catch (ExecutionException e) {
            fail(command, e.getCause().getMessage());
        } catch (IllegalArgumentException | IndexOutOfBoundsException e) {
            fail(command, "not a command of Administer.java: " + e.getMessage());
        }
    }

    private static void fail(String command, String cause) {
        System.err.println("kafka: " + command + ": " + cause);
        System.exit(1);
    }

    private static Collection<List<String>> commands(List<String> argument) {
        if (!argument.isEmpty()) return List.of(argument);
        var lines = new BufferedReader(new InputStreamReader(System.in)).lines();
        return lines.filter(line -> !line.isBlank()).map(line -> List.of(line.trim().split("\\s+"))).toList();
    }

    private void run(List<String> words) throws Exception {
        var name = words.get(1);
        switch (words.get(0)) {
            case "topic" -> createTopic(name, Integer.parseInt(words.get(2)), pairs(words, 3));
            case "config" -> alterConfig(new ConfigResource(ConfigResource.Type.TOPIC, name), pairs(words, 2));
            case "password" -> setPassword(name, words.get(2));
            case "acl" -> alterAcl(name, words.get(2), words.get(3), words.get(4), words.get(5));
            case "quota" -> alterQuota(name, words.get(2), pairs(words, 3));
            case "certificate" -> replaceCertificate(name);
            default -> throw new IllegalArgumentException(words.get(0));
        }
    }

    private void createTopic(String name, int partitions, Map<String, String> configs) throws Exception {
        var topic = new NewTopic(name, Optional.of(partitions), Optional.empty()).configs(configs);
        admin.createTopics(List.of(topic)).all().get();
    }

    private void alterConfig(ConfigResource resource, Map<String, String> configs) throws Exception {
        var operations = new ArrayList<AlterConfigOp>();
        configs.forEach((key, value) -> {
            var operation = value.isEmpty() ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET;
            operations.add(new AlterConfigOp(new ConfigEntry(key, value), operation));
        });
        admin.incrementalAlterConfigs(Map.of(resource, operations)).all().get();
    }

    private void setPassword(String user, String password) throws Exception {
        // One request takes one mechanism of a user.
        for (var mechanism : List.of(SCRAM_SHA_256, SCRAM_SHA_512)) {
            var credential = new UserScramCredentialUpsertion(user, new ScramCredentialInfo(mechanism, 4096), password);
            admin.alterUserScramCredentials(List.of(credential)).all().get();
        }
    }

    private void alterAcl(String action, String user, String operation, String type, String name) throws Exception {
        var isPrefix = name.length() > 1 && name.endsWith("*");
        var resource = new ResourcePattern(
                ResourceType.fromString(type),
                isPrefix ? name.substring(0, name.length() - 1) : name,
                isPrefix ? PatternType.PREFIXED : PatternType.LITERAL);
        var entry = new AccessControlEntry(
                "User:" + user, "*", AclOperation.fromString(operation), AclPermissionType.ALLOW);
        var acl = new AclBinding(resource, entry);
        switch (action) {
            case "add" -> admin.createAcls(List.of(acl)).all().get();
            case "remove" -> {
                var removed = admin.deleteAcls(List.of(acl.toFilter())).all().get();
                if (removed.isEmpty()) throw new ExecutionException(new Exception("there is no such ACL"));
            }
            default -> throw new IllegalArgumentException(action);
        }
    }

    private void alterQuota(String type, String name, Map<String, String> limits) throws Exception {
        var entity = new ClientQuotaEntity(Map.of(type, name));
        var operations = new ArrayList<ClientQuotaAlteration.Op>();
        limits.forEach((key, value) ->
                operations.add(new ClientQuotaAlteration.Op(key, value.isEmpty() ? null : Double.valueOf(value))));
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, operations))).all().get();
    }

    /** Kafka reads a keystore again when the setting is written, even with the value that it has. */
    private void replaceCertificate(String file) throws Exception {
        for (var node : admin.describeCluster().nodes().get()) {
            var configs = new HashMap<String, String>();
            for (var listener : List.of("sasl_ssl", "ssl")) {
                configs.put("listener.name." + listener + ".ssl.keystore.location", file);
            }
            alterConfig(new ConfigResource(ConfigResource.Type.BROKER, node.idString()), configs);
        }
    }

    /**
     * Waits until each broker has metadata that is newer than the last change. A broker applies metadata in order, and the
     * controller writes a record at least every 500 ms (metadata.max.idle.interval.ms).
     */
    private void await(long timeout) throws Exception {
        var end = System.nanoTime() + timeout * 1_000_000;
        var committed = admin.describeMetadataQuorum().quorumInfo().get().highWatermark();
        for (var node : admin.describeCluster().nodes().get()) {
            var one = new DescribeFeaturesOptions().nodeId(node.id());
            // The epoch of the features is the offset of the broker's metadata.
            while (admin.describeFeatures(one).featureMetadata().get().finalizedFeaturesEpoch().orElse(0L) < committed) {
                if (System.nanoTime() > end) {
                    throw new ExecutionException(new Exception("node " + node.id() + " has not applied them in time"));
                }
                Thread.sleep(50);
            }
        }
    }

    private static Map<String, String> pairs(List<String> words, int from) {
        var pairs = new HashMap<String, String>();
        for (var word : words.subList(from, words.size())) {
            var end = word.indexOf('=');
            if (end < 1) throw new IllegalArgumentException(word + " is not KEY=VALUE");
            pairs.put(word.substring(0, end), word.substring(end + 1));
        }
        return pairs;
    }
}
