package headwater;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;

/**
 * Decisions, one JSON object a line, for tests to read. Each node writes files of its own in the
 * folder that the property {@code headwater.iam} names.
 */
final class Log {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Log() {}

    static Path folder() {
        return Path.of(System.getProperty("headwater.iam"));
    }

    static String line(Map<String, ?> fields) {
        try {
            return JSON.writeValueAsString(fields) + "\n";
        } catch (JsonProcessingException error) {
            throw new IllegalStateException(error);
        }
    }

    static synchronized void append(String file, Map<String, ?> fields) {
        Path path = folder().resolve(file + "-" + System.getProperty("headwater.node") + ".jsonl");
        try {
            Files.write(path, line(fields).getBytes(StandardCharsets.UTF_8),
                    StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException error) {
            throw new IllegalStateException("cannot write " + path, error);
        }
    }
}
