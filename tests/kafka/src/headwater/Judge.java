package headwater;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Instant;

/**
 * The validator without a broker and without a clock: {@code Judge <iam.json>} reads
 * {@code <milliseconds since 1970> <token>} from standard input, a line each, and answers each with
 * the decision that the broker would log.
 */
public final class Judge {
    private Judge() {}

    public static void main(String[] arguments) throws IOException {
        Iam iam = Iam.read(Path.of(arguments[0]));
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] parts = line.split(" ", 2);
            Instant now = Instant.ofEpochMilli(Long.parseLong(parts[0]));
            Iam.Accepted accepted = null;
            Denied denied = null;
            try {
                accepted = iam.check(parts[1], now);
            } catch (Denied error) {
                denied = error;
            }
            System.out.print(Log.line(SigV4Validator.describe(now, accepted, denied)));
        }
    }
}
