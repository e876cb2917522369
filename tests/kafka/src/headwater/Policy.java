package headwater;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;

/**
 * Identity policies as IAM reads them, as far as MSK's need them: Effect, Action, Resource, with the
 * wildcards '*' and '?'; an explicit Deny wins, and what nothing allows is denied. Anything else in a
 * statement is refused aloud, since it would otherwise seem to be tested.
 */
final class Policy {
    private record Statement(boolean allow, List<Pattern> actions, List<Pattern> resources) {
        boolean covers(String action, String resource) {
            return actions.stream().anyMatch(pattern -> pattern.matcher(action).matches())
                    && resources.stream().anyMatch(pattern -> pattern.matcher(resource).matches());
        }
    }

    private final List<Statement> statements = new ArrayList<>();

    /** @param documents an array of policy documents */
    Policy(JsonNode documents) {
        for (JsonNode document : documents) {
            for (JsonNode statement : document.required("Statement")) {
                statement.fieldNames().forEachRemaining(name -> {
                    if (!List.of("Sid", "Effect", "Action", "Resource").contains(name)) {
                        throw new IllegalArgumentException("the emulator does not know " + name + " in a policy");
                    }
                });
                statements.add(new Statement(
                        statement.required("Effect").asText().equals("Allow"),
                        // Actions are compared without case, resources with it.
                        patterns(statement.required("Action"), Pattern.CASE_INSENSITIVE),
                        patterns(statement.required("Resource"), 0)));
            }
        }
    }

    boolean allows(String action, String resource) {
        List<Statement> covering = statements.stream().filter(one -> one.covers(action, resource)).toList();
        return !covering.isEmpty() && covering.stream().allMatch(Statement::allow);
    }

    private static List<Pattern> patterns(JsonNode oneOrMore, int flags) {
        List<Pattern> patterns = new ArrayList<>();
        Iterable<JsonNode> all = oneOrMore.isArray() ? oneOrMore : List.of(oneOrMore);
        for (JsonNode one : all) {
            StringBuilder regex = new StringBuilder();
            for (char letter : one.asText().toCharArray()) {
                switch (letter) {
                    case '*' -> regex.append(".*");
                    case '?' -> regex.append('.');
                    default -> regex.append(Pattern.quote(String.valueOf(letter)));
                }
            }
            patterns.add(Pattern.compile(regex.toString(), flags));
        }
        return patterns;
    }
}
