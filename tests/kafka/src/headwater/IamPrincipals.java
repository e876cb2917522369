package headwater;

import org.apache.kafka.common.security.auth.AuthenticationContext;
import org.apache.kafka.common.security.auth.KafkaPrincipal;
import org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder;
import org.apache.kafka.common.security.ssl.SslPrincipalMapper;

/** Names who came by IAM {@code IAM:<ARN>}, as MSK does: Kafka's own ACLs do not apply to them. */
public final class IamPrincipals extends DefaultKafkaPrincipalBuilder {
    static final String TYPE = "IAM";

    public IamPrincipals() {
        super(null, SslPrincipalMapper.fromRules("DEFAULT"));
    }

    @Override
    public KafkaPrincipal build(AuthenticationContext context) {
        return new KafkaPrincipal(TYPE, super.build(context).getName());
    }
}
