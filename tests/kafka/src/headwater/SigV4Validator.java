package headwater;

import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerExtensionsValidatorCallback;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

/**
 * MSK's IAM listener: takes or refuses a bearer token, writes the decision to {@code decisions-<node>.jsonl},
 * and tells the client no more than MSK does, {@code [<uuid>]: Access denied}. That a connection keeps
 * its principal when it authenticates again is checked by the broker itself.
 */
public final class SigV4Validator implements AuthenticateCallbackHandler {
    private static long second;
    private static int connects;

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> jaas) {}

    @Override
    public void close() {}

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (callback instanceof OAuthBearerValidatorCallback validate) {
                validate.token(decide(validate.tokenValue(), Instant.now()));
            } else if (callback instanceof OAuthBearerExtensionsValidatorCallback extensions) {
                extensions.inputExtensions().map().keySet().forEach(extensions::valid);
            } else {
                throw new UnsupportedCallbackException(callback);
            }
        }
    }

    private static OAuthBearerToken decide(String token, Instant now) {
        Iam iam = Iam.current();
        try {
            count(now, iam.connectsPerSecondMax);
            Iam.Accepted accepted = iam.check(token, now);
            Log.append("decisions", describe(now, accepted, null));
            return new Token(token, accepted);
        } catch (Denied denied) {
            Log.append("decisions", describe(now, null, denied));
            throw new SaslAuthenticationException("[" + UUID.randomUUID() + "]: " + switch (denied.reason()) {
                case "session_too_short" -> "Session too short";
                case "too_many_connects" -> "Too many connects";
                default -> "Access denied";
            });
        }
    }

    /** MSK refuses new IAM connections above a rate. Here re-authentications count too. */
    private static synchronized void count(Instant now, int max) throws Denied {
        if (now.getEpochSecond() != second) {
            second = now.getEpochSecond();
            connects = 0;
        }
        connects++;
        Denied.unless(max == 0 || connects <= max, "too_many_connects", connects + " in this second");
    }

    static Map<String, Object> describe(Instant now, Iam.Accepted accepted, Denied denied) {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("at_ms", now.toEpochMilli());
        fields.put("accepted", accepted != null);
        fields.put("key_id", accepted != null ? accepted.keyId() : denied.keyId());
        if (accepted != null) {
            fields.put("principal", accepted.principal());
            fields.put("until_ms", accepted.until().toEpochMilli());
        } else {
            fields.put("reason", denied.reason());
            fields.put("detail", denied.getMessage());
        }
        return fields;
    }

    private record Token(String value, Iam.Accepted accepted) implements OAuthBearerToken {
        @Override
        public Set<String> scope() {
            return Set.of();
        }

        @Override
        public long lifetimeMs() {
            return accepted.until().toEpochMilli();
        }

        @Override
        public String principalName() {
            return accepted.principal();
        }

        @Override
        public Long startTimeMs() {
            return accepted.from().toEpochMilli();
        }
    }
}
