import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.eclipse.dataspacetck.core.system.ConsoleMonitor;
import org.eclipse.dataspacetck.runtime.TckRuntime;
import org.junit.platform.launcher.listeners.TestExecutionSummary.Failure;

/**
 * Runs a compatibility kit and writes what became of it: the kit's own main class prints it for people and exits with 0.
 *
 * <p>Started from its source: {@code java -cp JARS RunKit.java PROPERTIES PACKAGE REPORT}. A line of the report is a word,
 * and after tabs a count, or a test's name and the message it failed with.
 */
public class RunKit {
    public static void main(String[] arguments) throws IOException {
        var properties = new Properties();
        try (var reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            properties.load(reader);
        }
        var kit = TckRuntime.Builder.newInstance().monitor(new ConsoleMonitor(true, false)).addPackage(arguments[1]);
        properties.stringPropertyNames().forEach(name -> kit.property(name, properties.getProperty(name)));
        var summary = kit.build().execute();
        try (var report = new PrintWriter(Files.newBufferedWriter(Path.of(arguments[2])))) {
            report.println("passed\t" + summary.getTestsSucceededCount());
            report.println("disabled\t" + summary.getTestsSkippedCount());
            for (var failure : summary.getFailures()) {
                report.println("failed\t" + failure.getTestIdentifier().getDisplayName() + "\t" + message(failure));
            }
        }
        System.exit(0); // the kit leaves threads behind
    }

    private static String message(Failure failure) {
        return String.valueOf(failure.getException()).replaceAll("\\s+", " ");
    }
}
