import java.util.ArrayList;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;

/** Makes a node the preferred leader of a partition and elects it. Arguments: BOOTSTRAP SECONDS TOPIC PARTITION NODE. */
class Lead {
    public static void main(String[] args) throws Exception {
        var end = System.nanoTime() + Long.parseLong(args[1]) * 1_000_000_000;
        var partition = new TopicPartition(args[2], Integer.parseInt(args[3]));
        var node = Integer.parseInt(args[4]);
        // A paused node accepts connections and sends no response: a short timeout moves on to the next node.
        try (var admin = Admin.create(Map.of("bootstrap.servers", args[0], "request.timeout.ms", "2000"))) {
            prefer(admin, partition, node);
            while (!leads(admin, partition, node)) {
                if (System.nanoTime() > end) throw failure("node " + node + " does not become the leader");
                Thread.sleep(100);
            }
        } catch (ExecutionException e) {
            System.err.println("kafka: " + partition + ": " + e.getCause().getMessage());
            System.exit(1);
        }
    }

    /** Moves the node to the front of the replica list. The length of the list stays. */
    private static void prefer(Admin admin, TopicPartition partition, int node) throws Exception {
        var order = new ArrayList<>(describe(admin, partition).replicas().stream().map(Node::id).toList());
        var count = order.size();
        order.remove((Integer) node);
        order.add(0, node);
        var target = new NewPartitionReassignment(order.subList(0, count));
        admin.alterPartitionReassignments(Map.of(partition, Optional.of(target))).all().get();
    }

    private static boolean leads(Admin admin, TopicPartition partition, int node) throws Exception {
        // The result is ignored: the election fails while the node is out of sync, and is not needed when it already leads.
        admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get();
        var leader = describe(admin, partition).leader();
        var moving = admin.listPartitionReassignments(Set.of(partition)).reassignments().get();
        return leader != null && leader.id() == node && moving.isEmpty();
    }

    private static TopicPartitionInfo describe(Admin admin, TopicPartition partition) throws Exception {
        var name = partition.topic();
        var partitions = admin.describeTopics(Set.of(name)).allTopicNames().get().get(name).partitions();
        if (partition.partition() < partitions.size()) return partitions.get(partition.partition());
        throw failure("no such partition");
    }

    private static ExecutionException failure(String text) {
        return new ExecutionException(new Exception(text));
    }
}
