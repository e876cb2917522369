package headwater;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.common.MetricName;
import org.apache.kafka.common.metrics.KafkaMetric;
import org.apache.kafka.common.metrics.MetricsReporter;

/**
 * What a broker itself counts of its connections, by listener: written to {@code counters-<node>.json}
 * ten times a second, by a rename, with the time at which it was looked at.
 */
public final class Counters implements MetricsReporter {
    private static final Map<MetricName, KafkaMetric> METRICS = new ConcurrentHashMap<>();
    private static Thread writer;

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void init(List<KafkaMetric> metrics) {
        metrics.forEach(this::metricChange);
        start();
    }

    @Override
    public void metricChange(KafkaMetric metric) {
        MetricName name = metric.metricName();
        if (name.group().equals("socket-server-metrics") && name.tags().containsKey("listener")) {
            METRICS.put(name, metric);
        }
    }

    @Override
    public void metricRemoval(KafkaMetric metric) {
        METRICS.remove(metric.metricName());
    }

    @Override
    public void close() {}

    private static synchronized void start() {
        if (writer == null) {
            writer = new Thread(Counters::write, "counters");
            writer.setDaemon(true);
            writer.start();
        }
    }

    private static void write() {
        String name = "counters-" + System.getProperty("headwater.node") + ".json";
        Path partial = Log.folder().resolve(name + ".partial");
        try {
            while (true) {
                Files.write(partial, Log.line(look()).getBytes(StandardCharsets.UTF_8));
                Files.move(partial, Log.folder().resolve(name), StandardCopyOption.ATOMIC_MOVE);
                Thread.sleep(100);
            }
        } catch (IOException | InterruptedException error) {
            throw new IllegalStateException("cannot write " + name, error);
        }
    }

    /** The sum over a listener's network threads, of every metric that has a number, rounded. */
    private static Map<String, Object> look() {
        Map<String, Object> all = new HashMap<>();
        all.put("at_ms", System.currentTimeMillis());
        METRICS.forEach((name, metric) -> {
            if (metric.metricValue() instanceof Number number && Double.isFinite(number.doubleValue())) {
                String key = name.tags().get("listener") + " " + name.name();
                all.merge(key, Math.round(number.doubleValue()), (a, b) -> (long) a + (long) b);
            }
        });
        return all;
    }
}
