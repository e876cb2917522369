package headwater;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.metadata.authorizer.StandardAuthorizer;
import org.apache.kafka.server.authorizer.Action;
import org.apache.kafka.server.authorizer.AuthorizableRequestContext;
import org.apache.kafka.server.authorizer.AuthorizationResult;

/**
 * MSK's two worlds: who came by IAM is judged by the IAM policies of the role, everybody else by
 * Kafka's ACLs. Each distinct question by an IAM principal is written once to
 * {@code authorizations-<node>.jsonl} with its answer.
 */
public final class IamAuthorizer extends StandardAuthorizer {
    /** Amazon MSK developer guide, "Semantics of IAM authorization policy actions and resources". */
    private static final Map<ResourceType, Map<AclOperation, String>> ACTIONS = Map.of(
            ResourceType.CLUSTER, Map.of(
                    AclOperation.DESCRIBE, "DescribeCluster",
                    AclOperation.ALTER, "AlterCluster",
                    AclOperation.DESCRIBE_CONFIGS, "DescribeClusterDynamicConfiguration",
                    AclOperation.ALTER_CONFIGS, "AlterClusterDynamicConfiguration",
                    AclOperation.IDEMPOTENT_WRITE, "WriteDataIdempotently"),
            ResourceType.TOPIC, Map.of(
                    AclOperation.CREATE, "CreateTopic",
                    AclOperation.DESCRIBE, "DescribeTopic",
                    AclOperation.ALTER, "AlterTopic",
                    AclOperation.DELETE, "DeleteTopic",
                    AclOperation.DESCRIBE_CONFIGS, "DescribeTopicDynamicConfiguration",
                    AclOperation.ALTER_CONFIGS, "AlterTopicDynamicConfiguration",
                    AclOperation.READ, "ReadData",
                    AclOperation.WRITE, "WriteData"),
            ResourceType.GROUP, Map.of(
                    AclOperation.READ, "AlterGroup",
                    AclOperation.DESCRIBE, "DescribeGroup",
                    AclOperation.DELETE, "DeleteGroup"),
            ResourceType.TRANSACTIONAL_ID, Map.of(
                    AclOperation.WRITE, "AlterTransactionalId",
                    AclOperation.DESCRIBE, "DescribeTransactionalId"));

    private static final Set<String> SAID = ConcurrentHashMap.newKeySet();

    @Override
    public List<AuthorizationResult> authorize(AuthorizableRequestContext context, List<Action> actions) {
        if (!isIam(context)) {
            return super.authorize(context, actions);
        }
        return actions.stream()
                .map(action -> judge(context, action.operation(), action.resourcePattern()))
                .collect(Collectors.toList());
    }

    /** "On any resource of this type": MSK takes it for "on all of them". */
    @Override
    public AuthorizationResult authorizeByResourceType(
            AuthorizableRequestContext context, AclOperation operation, ResourceType type) {
        if (!isIam(context)) {
            return super.authorizeByResourceType(context, operation, type);
        }
        Iam iam = Iam.current();
        String action = ACTIONS.getOrDefault(type, Map.of()).get(operation);
        // No name holds a slash: only a pattern for all of them covers this one.
        String any = iam.arn(type.name().toLowerCase().replace('_', '-'), "/");
        return result(action != null
                && iam.allows(context.principal().getName(), "kafka-cluster:" + action, any));
    }

    private static boolean isIam(AuthorizableRequestContext context) {
        return context.principal().getPrincipalType().equals(IamPrincipals.TYPE);
    }

    private static AuthorizationResult judge(
            AuthorizableRequestContext context, AclOperation operation, ResourcePattern on) {
        Iam iam = Iam.current();
        String principal = context.principal().getName();
        String name = ACTIONS.getOrDefault(on.resourceType(), Map.of()).get(operation);
        String action = name == null ? "none:" + on.resourceType() + "." + operation : "kafka-cluster:" + name;
        String resource = switch (on.resourceType()) {
            case TOPIC -> iam.arn("topic", on.name());
            case GROUP -> iam.arn("group", on.name());
            case TRANSACTIONAL_ID -> iam.arn("transactional-id", on.name());
            default -> iam.clusterArn;
        };
        boolean allowed = iam.allows(principal, action, resource);
        if (SAID.add(principal + " " + action + " " + resource + " " + allowed)) {
            Log.append("authorizations", new TreeMap<>(Map.of(
                    "principal", principal, "action", action, "resource", resource, "allowed", allowed)));
        }
        return result(allowed);
    }

    private static AuthorizationResult result(boolean allowed) {
        return allowed ? AuthorizationResult.ALLOWED : AuthorizationResult.DENIED;
    }
}
