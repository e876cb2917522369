package headwater;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;

/**
 * What AWS would know: keys, policies and the cluster's place, from one JSON file that a test may
 * replace (by rename) at any time. Pure but for {@link #current()}.
 */
final class Iam {
    /** One access key. Without a session token it is a user's own, which never expires by itself. */
    record Key(String secret, String sessionToken, String principal, Instant expires, boolean revoked) {}

    /** Who a token speaks for, and until when. */
    record Accepted(String keyId, String principal, Instant from, Instant until) {}

    private static final ObjectMapper JSON = new ObjectMapper();
    private static Object seen;
    private static Iam loaded;

    final String region;
    final String clusterArn;
    /** How many connects (and re-authentications) a second pass; 0: any number. */
    final int connectsPerSecondMax;
    private final Duration skew;
    private final Duration sessionMin;
    private final Map<String, Key> keys = new HashMap<>();
    private final Map<String, Policy> policies = new HashMap<>();

    private Iam(JsonNode file) {
        region = file.required("region").asText();
        clusterArn = file.required("cluster_arn").asText();
        connectsPerSecondMax = file.required("connects_per_second_max").asInt();
        skew = Duration.ofMillis(file.required("skew_ms").asLong());
        sessionMin = Duration.ofMillis(file.required("session_ms_min").asLong());
        file.required("keys").properties().forEach(entry -> {
            JsonNode key = entry.getValue();
            keys.put(entry.getKey(), new Key(
                    key.required("secret").asText(),
                    key.required("session_token").textValue(),
                    key.required("principal").asText(),
                    key.required("expires_ms").isNull()
                            ? Instant.MAX
                            : Instant.ofEpochMilli(key.required("expires_ms").asLong()),
                    key.required("revoked").asBoolean()));
        });
        file.required("policies").properties().forEach(entry ->
                policies.put(entry.getKey(), new Policy(entry.getValue())));
    }

    static Iam read(Path path) throws IOException {
        return new Iam(JSON.readTree(Files.readAllBytes(path)));
    }

    /** The file of this moment; read again only when it was replaced. */
    static synchronized Iam current() {
        Path path = Log.folder().resolve("iam.json");
        try {
            BasicFileAttributes about = Files.readAttributes(path, BasicFileAttributes.class);
            Object found = Map.entry(String.valueOf(about.fileKey()), about.lastModifiedTime());
            if (!found.equals(seen)) {
                loaded = read(path);
                seen = found;
            }
            return loaded;
        } catch (IOException error) {
            throw new IllegalStateException("cannot read " + path, error);
        }
    }

    /** Whether a token is good at this moment; the whole of MSK's check but for counting. */
    Accepted check(String text, Instant now) throws Denied {
        PresignedToken token = PresignedToken.parse(text, region);
        try {
            return check(token, now);
        } catch (Denied denied) {
            throw denied.of(token.keyId());
        }
    }

    private Accepted check(PresignedToken token, Instant now) throws Denied {
        Key key = keys.get(token.keyId());
        Denied.unless(key != null, "unknown_key", token.keyId());
        if (key.sessionToken() == null) {
            Denied.unless(token.sessionToken() == null, "session_token_unexpected", token.keyId());
        } else {
            Denied.unless(token.sessionToken() != null, "session_token_missing", token.keyId());
            Denied.unless(key.sessionToken().equals(token.sessionToken()), "session_token_differs", token.keyId());
        }
        token.verify(key.secret());
        Denied.unless(!key.revoked(), "revoked", token.keyId());
        Denied.unless(!token.date().minus(skew).isAfter(now), "from_the_future", token.date().toString());
        Denied.unless(now.isBefore(token.expires()), "expired", token.expires().toString());
        Denied.unless(now.isBefore(key.expires()), "credentials_expired", key.expires().toString());
        Instant until = token.expires().isBefore(key.expires()) ? token.expires() : key.expires();
        Denied.unless(!now.plus(sessionMin).isAfter(until), "session_too_short",
                Duration.between(now, until).toString());
        Denied.unless(allows(key.principal(), "kafka-cluster:Connect", clusterArn), "not_authorized", key.principal());
        return new Accepted(token.keyId(), key.principal(), token.date(), until);
    }

    /** Whether the policies of a principal's role (or user) allow an action. */
    boolean allows(String principal, String action, String resource) {
        Policy policy = policies.get(identity(principal));
        return policy != null && policy.allows(action, resource);
    }

    /** The ARN of a topic, group or transactional id of the cluster. */
    String arn(String kind, String name) {
        return clusterArn.replaceFirst(":cluster/", ":" + kind + "/") + "/" + name;
    }

    /** {@code arn:aws:sts::1:assumed-role/R/session} and {@code arn:aws:iam::1:user/U}: R and U. */
    private static String identity(String principal) {
        String[] parts = principal.split("/");
        return parts.length > 1 ? parts[1] : principal;
    }
}
