package headwater;

/**
 * A token, or what rests on it, was refused. The reason is one word of the decision log, for tests to
 * ask for; a client never learns it, as with MSK.
 */
final class Denied extends Exception {
    private static final long serialVersionUID = 1;

    private final String reason;
    /** The key that the token names, if it could be read; not proven. */
    private final String keyId;

    Denied(String reason, String detail) {
        this(reason, detail, "");
    }

    private Denied(String reason, String detail, String keyId) {
        super(detail);
        this.reason = reason;
        this.keyId = keyId;
    }

    Denied of(String key) {
        return new Denied(reason, getMessage(), key);
    }

    String reason() {
        return reason;
    }

    String keyId() {
        return keyId;
    }

    static void unless(boolean holds, String reason, String detail) throws Denied {
        if (!holds) {
            throw new Denied(reason, detail);
        }
    }
}
