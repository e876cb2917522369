package headwater;

import java.net.URI;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeParseException;
import java.time.format.ResolverStyle;
import java.util.Base64;
import java.util.HexFormat;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * A bearer token as MSK's IAM takes it: the base64url form of a presigned URL for the action
 * {@code kafka-cluster:Connect} (SigV4, AWS's "Authenticating Requests: Using Query Parameters").
 *
 * <p>What MSK itself checks is not published. Here everything is refused that one of AWS's own
 * signers would not have made, so that a client which passes here has no odd habit left.
 * Pure: the time and the key table are arguments.
 */
record PresignedToken(
        String region, String keyId, Instant date, int lifetimeSeconds, String sessionToken,
        String signature, String canonicalQuery, String scopeDay) {

    /** Far above a token with a session token of IoT Core (2 KB), far below the broker's limit. */
    static final int CHARS_MAX = 16 * 1024;

    private static final String ALGORITHM = "AWS4-HMAC-SHA256";
    private static final String SERVICE = "kafka-cluster";
    private static final String EMPTY_SHA256 =
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    private static final Pattern ALPHABET = Pattern.compile("[A-Za-z0-9_-]+");
    private static final Pattern HOST = Pattern.compile("kafka\\.([a-z0-9-]+)\\.amazonaws\\.com");
    /** The unreserved characters of RFC 3986, and escapes: '+' for a space is not among them. */
    private static final Pattern ENCODED = Pattern.compile("(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})*");
    private static final Pattern SIGNATURE = Pattern.compile("[0-9a-f]{64}");
    private static final DateTimeFormatter DATE =
            DateTimeFormatter.ofPattern("uuuuMMdd'T'HHmmss'Z'").withResolverStyle(ResolverStyle.STRICT);
    private static final Set<String> REQUIRED = Set.of(
            "Action", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
            "X-Amz-SignedHeaders", "X-Amz-Signature", "User-Agent");
    private static final Set<String> UNSIGNED = Set.of("X-Amz-Signature", "User-Agent");

    /** Reads a token, without any secret. */
    static PresignedToken parse(String token, String clusterRegion) throws Denied {
        if (token.length() > CHARS_MAX) {
            throw new Denied("too_large", token.length() + " characters");
        }
        Denied.unless(ALPHABET.matcher(token).matches(), "not_base64url", "foreign characters or padding");
        URI uri = uri(token);
        Matcher host = HOST.matcher(String.valueOf(uri.getRawAuthority()));
        Denied.unless("https".equals(uri.getScheme()) && host.matches() && "/".equals(uri.getRawPath())
                        && uri.getRawFragment() == null && uri.getRawQuery() != null,
                "not_a_presigned_url", "want https://kafka.<region>.amazonaws.com/?...");
        Denied.unless(host.group(1).equals(clusterRegion), "wrong_region", "host of " + host.group(1));
        Map<String, String> query = query(uri.getRawQuery());
        is(query, "Action", "kafka-cluster:Connect", "wrong_action");
        is(query, "X-Amz-Algorithm", ALGORITHM, "wrong_algorithm");
        is(query, "X-Amz-SignedHeaders", "host", "wrong_signed_headers");
        Instant date = date(query.get("X-Amz-Date"));
        String[] scope = query.get("X-Amz-Credential").split("/", -1);
        Denied.unless(scope.length == 5 && !scope[0].isEmpty(), "wrong_scope", "want five parts");
        Denied.unless(scope[2].equals(clusterRegion), "wrong_region", "scope of " + scope[2]);
        Denied.unless(query.get("X-Amz-Date").startsWith(scope[1] + "T") && scope[3].equals(SERVICE)
                && scope[4].equals("aws4_request"), "wrong_scope", query.get("X-Amz-Credential"));
        String signature = query.get("X-Amz-Signature");
        Denied.unless(SIGNATURE.matcher(signature).matches(), "malformed_signature", "want 64 lower-case hex digits");
        return new PresignedToken(clusterRegion, scope[0], date, lifetime(query.get("X-Amz-Expires")),
                query.get("X-Amz-Security-Token"), signature, canonicalQuery(query), scope[1]);
    }

    /** The moment from which no session may rest on this token. */
    Instant expires() {
        return date.plusSeconds(lifetimeSeconds);
    }

    /** Checks the signature; the payload's hash is that of an empty body and nothing else. */
    void verify(String secret) throws Denied {
        String request = String.join("\n", "GET", "/", canonicalQuery,
                "host:kafka." + region + ".amazonaws.com", "", "host", EMPTY_SHA256);
        String scope = String.join("/", scopeDay, region, SERVICE, "aws4_request");
        String toSign = String.join("\n", ALGORITHM,
                DATE.format(date.atOffset(ZoneOffset.UTC)), scope, sha256(request));
        byte[] key = ("AWS4" + secret).getBytes(StandardCharsets.UTF_8);
        for (String part : new String[] {scopeDay, region, SERVICE, "aws4_request", toSign}) {
            key = hmac(key, part);
        }
        byte[] want = HexFormat.of().formatHex(key).getBytes(StandardCharsets.US_ASCII);
        Denied.unless(MessageDigest.isEqual(want, signature.getBytes(StandardCharsets.US_ASCII)),
                "signature_differs", "canonical request " + sha256(request));
    }

    private static URI uri(String token) throws Denied {
        try {
            byte[] bytes = Base64.getUrlDecoder().decode(token);
            String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
            return new URI(text);
        } catch (IllegalArgumentException error) {
            throw new Denied("not_base64url", error.getMessage());
        } catch (CharacterCodingException | URISyntaxException error) {
            throw new Denied("not_a_presigned_url", error.getMessage());
        }
    }

    /** The decoded parameters by name; every name is known, none is missing, none comes twice. */
    private static Map<String, String> query(String raw) throws Denied {
        Map<String, String> query = new TreeMap<>();
        for (String pair : raw.split("&", -1)) {
            int equals = pair.indexOf('=');
            Denied.unless(equals > 0, "malformed_parameter", pair);
            String name = decode(pair.substring(0, equals));
            Denied.unless(REQUIRED.contains(name) || name.equals("X-Amz-Security-Token"), "unknown_parameter", name);
            String before = query.put(name, decode(pair.substring(equals + 1)));
            Denied.unless(before == null, "duplicate_parameter", name);
        }
        for (String name : REQUIRED) {
            Denied.unless(query.containsKey(name) && !query.get(name).isEmpty(), "missing_parameter", name);
        }
        return query;
    }

    private static void is(Map<String, String> query, String name, String wanted, String reason) throws Denied {
        Denied.unless(query.get(name).equals(wanted), reason, query.get(name));
    }

    private static Instant date(String text) throws Denied {
        try {
            return LocalDateTime.parse(text, DATE).toInstant(ZoneOffset.UTC);
        } catch (DateTimeParseException error) {
            throw new Denied("malformed_date", text);
        }
    }

    /** Whole seconds, 1 to 900: some signers once sent fractions. */
    private static int lifetime(String text) throws Denied {
        Denied.unless(text.matches("[1-9][0-9]{0,2}") && Integer.parseInt(text) <= 900, "wrong_lifetime", text);
        return Integer.parseInt(text);
    }

    /** The parameters encoded anew and sorted, less those that are not signed. */
    private static String canonicalQuery(Map<String, String> query) {
        Map<String, String> encoded = new TreeMap<>();
        query.forEach((name, value) -> {
            if (!UNSIGNED.contains(name)) {
                encoded.put(encode(name), encode(value));
            }
        });
        StringBuilder text = new StringBuilder();
        encoded.forEach((name, value) ->
                text.append(text.isEmpty() ? "" : "&").append(name).append('=').append(value));
        return text.toString();
    }

    private static String decode(String text) throws Denied {
        Denied.unless(ENCODED.matcher(text).matches(), "malformed_encoding", text);
        byte[] bytes = new byte[text.length()];
        int length = 0;
        for (int at = 0; at < text.length(); at++) {
            if (text.charAt(at) == '%') {
                bytes[length++] = (byte) Integer.parseInt(text.substring(at + 1, at + 3), 16);
                at += 2;
            } else {
                bytes[length++] = (byte) text.charAt(at);
            }
        }
        return new String(bytes, 0, length, StandardCharsets.UTF_8);
    }

    private static String encode(String text) {
        StringBuilder encoded = new StringBuilder();
        for (byte one : text.getBytes(StandardCharsets.UTF_8)) {
            char letter = (char) (one & 0xFF);
            boolean unreserved = letter < 128 && (Character.isLetterOrDigit(letter) || "-._~".indexOf(letter) >= 0);
            encoded.append(unreserved ? String.valueOf(letter) : String.format("%%%02X", one));
        }
        return encoded.toString();
    }

    private static String sha256(String text) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(digest);
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
    }

    private static byte[] hmac(byte[] key, String text) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException("every Java has HmacSHA256", error);
        }
    }
}
